//! Files of the cgroup file system: reading, writing, and what is in them.
//!
//! Which files are written, and why, is decided by the callers.

use std::{fs, io, path::Path};

use super::controllers::{Controller, Version};
use crate::sys::errno::placed;

/// What the names of all groups of tasks begin with.
pub(super) const PREFIX: &str = "dewar.";

/// The group of dewar's own processes, in v2.
pub(super) const OWN_LEAF: &str = "dewar.keeper";

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

/// The number of processes in `base` that are not dewar's: dewar's run this very program.
pub(super) fn strangers(base: &Path) -> usize {
    let own = fs::read_link("/proc/self/exe").ok();
    let is_ours = |pid: &i32| {
        // 0 is a process of another pid namespace, which cannot be seen from here.
        if *pid == 0 {
            return false;
        }
        let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
        // A process that died meanwhile is in no group any more.
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

/// Adds the path to an error of the kernel.
pub(super) fn at(path: &Path, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        // Callers look at these numbers, so they are kept.
        Some(libc::ESRCH | libc::EBUSY | libc::ENOENT) => error,
        _ => placed(path.display(), error),
    }
}

/// True when there are groups of tasks below `base`.
pub(super) fn has_groups(base: &Path) -> bool {
    let mut entries = fs::read_dir(base).into_iter().flatten().flatten();
    entries.any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(PREFIX) && name != OWN_LEAF
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
