//! The hierarchy in which every run gets a group, whether it has limits or not.
//!
//! A process cannot leave its group, so the group tells all processes of a run, and ends them. The
//! hierarchy needs no controllers: v2 is taken where it is mounted, also beside v1; else `pids` of
//! v1, which can stop forks. Nothing is changed here, and no group of ours is moved for it.

use std::{fs, path::PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{
    controllers::{Controller, Version},
    hierarchies::{Hierarchy, base_in, base_of_v2, groups_of, mount_of_v1, mount_of_v2},
};

/// Finds the hierarchy in which runs get their groups.
///
/// # Errors
/// Why there is none, for people.
pub fn tracking() -> Result<Hierarchy, String> {
    let own = groups_of("self");
    let no_v2 = match mount_of_v2() {
        Some(mount) => match v2(mount, own.get("")) {
            Ok(base) => return Ok(of(Version::V2, Vec::new(), base)),
            Err(why) => Some(why),
        },
        None => None,
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some((mount, root)) = mount_of_v1(&mounts, Controller::Pids) else {
        return Err(no_v2.unwrap_or_else(|| "no cgroup v2 and no `pids` of v1 here".to_owned()));
    };
    let base = base_in(mount, root, own.get(Controller::Pids.name(Version::V1)))?;
    Ok(of(Version::V1, vec![Controller::Pids], base))
}

fn of(version: Version, controllers: Vec<Controller>, base: PathBuf) -> Hierarchy {
    Hierarchy {
        version,
        controllers,
        base,
    }
}

/// The group of v2 below which groups can be made and processes be born.
fn v2(mount: &str, own: Option<&String>) -> Result<PathBuf, String> {
    let base = base_of_v2(mount, own)?;
    // Whoever puts a process into a group must be allowed to write to the group above it.
    let door = base.join("cgroup.procs");
    match access(&door, AccessFlags::W_OK) {
        Ok(()) => Ok(base),
        Err(errno) => Err(format!(
            "{} is not delegated to us: {}",
            base.display(),
            errno.desc()
        )),
    }
}
