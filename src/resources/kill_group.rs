//! Ending all processes of a group, also those that are being forked meanwhile.
//!
//! v2 does it in one write (Linux 5.14). Before that the group is frozen first; in v1 its forks are
//! stopped by `pids.max`. Such a group is of no use any more: no process can live in it. A process
//! is signalled through a pidfd, and only while the group names it.

use std::{collections::HashSet, io, path::Path};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{
    cgroupfs::{processes, write},
    controllers::{Controller, Version},
    group_dir::{GroupDir, collect, subgroups},
};

/// Sends SIGKILL to all processes in the group of these directories and below it. Where the kernel
/// has no way to do that at once, what forks fast enough gets away.
pub(super) fn kill(dirs: &[GroupDir]) {
    let mut known = HashSet::new();
    let v2 = dirs.iter().find(|dir| dir.version == Version::V2);
    if let Some(dir) = v2 {
        match write(&dir.path.join("cgroup.kill"), "1") {
            // The kernel spares a process whose first thread has ended before the others.
            Ok(()) => kill_each(&dir.path, &mut known),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !dir.path.exists() => {}
            Err(error) => {
                tracing::debug!("cgroup.kill: {error}");
                freeze_and_kill(&dir.path, &mut known);
            }
        }
    }
    // A process may have been moved away in one hierarchy alone.
    for dir in dirs.iter().filter(|dir| dir.version == Version::V1) {
        if v2.is_none() && dir.controllers.contains(&Controller::Pids) {
            stop_forks(&dir.path);
        }
        kill_each(&dir.path, &mut known);
    }
}

/// v2 before Linux 5.14.
fn freeze_and_kill(path: &Path, known: &mut HashSet<i32>) {
    let freeze = path.join("cgroup.freeze");
    let is_frozen = write(&freeze, "1").is_ok();
    kill_each(path, known);
    if is_frozen && let Err(error) = write(&freeze, "0") {
        tracing::warn!("cgroup.freeze: {error}");
    }
}

/// v1: a limit of 0 refuses every fork, and moves nothing that is there.
fn stop_forks(path: &Path) {
    // Only where processes are: what is made above them later must be able to fork.
    if !processes(path).is_empty()
        && let Err(error) = write(&path.join("pids.max"), "0")
    {
        tracing::debug!("pids.max: {error}");
    }
    for group in subgroups(path) {
        stop_forks(&group);
    }
}

/// Kills the processes one by one, look by look, until no new one appears; those that are `known`
/// have been killed.
fn kill_each(path: &Path, known: &mut HashSet<i32>) {
    /// Of a group that can still fork, so many generations are followed.
    const LOOKS: usize = 20;
    for _ in 0..LOOKS {
        let mut found = Vec::new();
        collect(path, &mut found);
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
        let mut named = Vec::new();
        collect(path, &mut named);
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
