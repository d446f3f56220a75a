//! Files of the cgroup file system: reading, writing, and what is in them.

use std::{fs, io, path::Path};

use super::controllers::{Controller, Version};

/// The controllers that a file of v2 names.
pub(super) fn listed(file: &Path) -> Vec<Controller> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let has = |controller: &Controller| {
        let name = controller.name(Version::V2);
        text.split_ascii_whitespace().any(|one| one == name)
    };
    Controller::ENABLED.into_iter().filter(has).collect()
}

/// Gives (`+`) controllers to the groups below one of v2, or takes them away (`-`).
pub(super) fn switch(group: &Path, sign: char, controllers: &[Controller]) -> io::Result<()> {
    for controller in controllers {
        let word = format!("{sign}{}", controller.name(Version::V2));
        write(&group.join("cgroup.subtree_control"), &word)?;
    }
    Ok(())
}

/// Processes in `base` that are not ours: ours run this very program.
pub(super) fn strangers(base: &Path) -> usize {
    let own = fs::read_link("/proc/self/exe").ok();
    let is_ours = |pid: &i32| {
        // 0 is one that we cannot see: of another pid namespace.
        if *pid == 0 {
            return false;
        }
        let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
        // One that died meanwhile is nobody's.
        exe == own || !Path::new(&format!("/proc/{pid}")).exists()
    };
    processes(base).iter().filter(|pid| !is_ours(pid)).count()
}

/// The processes directly in a group; zombies are in none.
pub(super) fn processes(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Writes to a file of the cgroup file system, which takes a value in one call.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value).map_err(|error| at(path, error))
}

pub(super) fn at(path: &Path, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        // Kept as it is for whoever looks at the number.
        Some(libc::ESRCH | libc::EBUSY | libc::ENOENT) => error,
        _ => io::Error::new(error.kind(), format!("{}: {error}", path.display())),
    }
}

/// Groups of tasks below `base`.
pub(super) fn has_groups(base: &Path) -> bool {
    let mut entries = fs::read_dir(base).into_iter().flatten().flatten();
    entries.any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(super::cgroupfs::PREFIX) && name != OWN_LEAF
    })
}

/// True when a disk of this machine is shared by weight.
pub(super) fn knows_weights(version: Version) -> bool {
    let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut schedulers =
        disks.filter_map(|disk| fs::read_to_string(disk.path().join("queue/scheduler")).ok());
    let costs = || {
        let text = fs::read_to_string("/sys/fs/cgroup/io.cost.qos").unwrap_or_default();
        text.contains("enable=1")
    };
    schedulers.any(|text| text.contains("[bfq]")) || (version == Version::V2 && costs())
}

/// How the groups of tasks are called.
pub(super) const PREFIX: &str = "dewar.";

/// Our own processes' group, in v2.
pub(super) const OWN_LEAF: &str = "dewar.keeper";
