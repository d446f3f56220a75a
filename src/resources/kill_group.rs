//! Ending all processes of a group, also those that are being forked meanwhile.
//!
//! v2 does it in one write (Linux 5.14). Before that the group is frozen first; in v1 its forks are
//! stopped by `pids.max`. Such a group is of no use any more: no process can live in it. A process
//! is signalled through a pidfd, and only while the group names it.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{
    cgroupfs::{processes, write},
    controllers::{Controller, Version},
    group_dir::{GroupDir, subgroups},
};

/// Sends SIGKILL to all processes in the group of these directories and below it. False where the
/// kernel has no way to do that at once: then what forks fast enough gets away.
pub(super) fn kill(dirs: &[GroupDir]) -> bool {
    let v2 = dirs.iter().find(|dir| dir.version == Version::V2);
    if let Some(dir) = v2 {
        match write(&dir.path.join("cgroup.kill"), "1") {
            Ok(()) => return true,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !dir.path.exists() => {
                return true;
            }
            Err(error) => tracing::debug!("cgroup.kill: {error}"),
        }
        return freeze_and_kill(&dir.path);
    }
    let pids = dirs
        .iter()
        .find(|dir| dir.controllers.contains(&Controller::Pids));
    match pids {
        Some(dir) => stop_forks_and_kill(&dir.path),
        None => {
            for dir in dirs {
                kill_each(&dir.path);
            }
            false
        }
    }
}

/// v2 before Linux 5.14.
fn freeze_and_kill(path: &Path) -> bool {
    let freeze = path.join("cgroup.freeze");
    let is_frozen = write(&freeze, "1").is_ok();
    kill_each(path);
    if is_frozen && let Err(error) = write(&freeze, "0") {
        tracing::warn!("cgroup.freeze: {error}");
    }
    is_frozen
}

/// v1: a limit of 0 refuses every fork, and moves nothing that is there.
fn stop_forks_and_kill(path: &Path) -> bool {
    let mut is_stopped = true;
    // In the leaves only: what is made above them later must be able to fork.
    for group in leaves(path) {
        is_stopped &= write(&group.join("pids.max"), "0").is_ok();
    }
    kill_each(path);
    is_stopped
}

/// The groups at and below `path` that have no group below them.
fn leaves(path: &Path) -> Vec<PathBuf> {
    let below = subgroups(path);
    match below.is_empty() {
        true => vec![path.to_owned()],
        false => below.iter().flat_map(|group| leaves(group)).collect(),
    }
}

/// Kills the processes one by one, look by look, until no new one appears.
fn kill_each(path: &Path) {
    /// Of a group that can still fork, so many generations are followed.
    const LOOKS: usize = 20;
    let mut known: HashSet<i32> = HashSet::new();
    for _ in 0..LOOKS {
        let found = all(path);
        let fresh = found.iter().filter(|pid| !known.contains(*pid));
        let opened: Vec<_> = fresh
            .filter_map(|pid| {
                let pidfd = pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()?;
                Some((*pid, pidfd))
            })
            .collect();
        if opened.is_empty() {
            return;
        }
        // A pid that is still named after its pidfd was opened is that process.
        let named: HashSet<i32> = all(path).into_iter().collect();
        for (pid, pidfd) in opened {
            known.insert(pid);
            if named.contains(&pid)
                && let Err(errno) = pidfd_send_signal(&pidfd, Signal::KILL)
                && errno != rustix::io::Errno::SRCH
            {
                tracing::warn!("cannot kill pid {pid}: {errno}");
            }
        }
    }
}

/// The processes in the group at `path` and below it.
fn all(path: &Path) -> Vec<i32> {
    let mut found = processes(path);
    for group in subgroups(path) {
        found.extend(all(&group));
    }
    found
}
