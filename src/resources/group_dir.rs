//! One directory of a group: making, locking, looking into and removing it.
//!
//! A group has such a directory in every hierarchy that is used. A directory that is locked belongs
//! to a keeper that lives; what is in it is not looked at here.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use super::{
    cgroupfs::{listed, processes, switch},
    controllers::{Controller, Version},
};

/// One directory of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupDir {
    pub version: Version,
    pub controllers: Vec<Controller>,
    pub path: PathBuf,
}

impl GroupDir {
    /// Makes the directory, and locks it for this keeper.
    pub fn make_locked(&self) -> io::Result<Flock<File>> {
        loop {
            fs::create_dir(&self.path)?;
            let opened = File::open(&self.path).and_then(|file| {
                Flock::lock(file, FlockArg::LockSharedNonblock).map_err(|(_, errno)| errno.into())
            });
            // Before it was locked, another keeper may have removed it: no process is in it.
            match opened {
                Ok(lock) if self.path.exists() => return Ok(lock),
                Ok(_) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    remove_tree(&self.path);
                    return Err(error);
                }
            }
        }
    }

    /// Lets groups below this one have the controllers that it has; in v1 they have them anyway.
    pub fn enable_below(&self) -> io::Result<()> {
        if self.version == Version::V2 {
            switch(&self.path, '+', &self.controllers)?;
        }
        Ok(())
    }

    /// True when a process is in it or below it.
    pub fn is_populated(&self) -> bool {
        if self.version == Version::V2
            && let Ok(events) = fs::read_to_string(self.path.join("cgroup.events"))
        {
            return events.lines().any(|line| line == "populated 1");
        }
        let mut found = Vec::new();
        collect(&self.path, &mut found);
        !found.is_empty()
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::WouldBlock
    )
}

/// The groups right below the one at `path`.
pub(super) fn subgroups(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Adds the processes in the group at `path` and in those below it to `found`.
pub(super) fn collect(path: &Path, found: &mut Vec<i32>) {
    found.extend(processes(path));
    for group in subgroups(path) {
        collect(&group, found);
    }
}

/// Removes the group at `path` and those below it; true when it is not there any more.
pub(super) fn remove_tree(path: &Path) -> bool {
    // Mostly there is no group below it, and looking costs more than removing.
    if is_removed(&fs::remove_dir(path)) {
        return true;
    }
    for group in subgroups(path) {
        remove_tree(&group);
    }
    let removed = fs::remove_dir(path);
    if let Err(error) = &removed {
        tracing::debug!("{}: {error}", path.display());
    }
    is_removed(&removed)
}

fn is_removed(result: &io::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The version and controllers of a directory in a hierarchy that this process does not use, by the
/// files in it.
pub(super) fn guess(path: &Path) -> (Version, Vec<Controller>) {
    let has = |file: &str| path.join(file).exists();
    if has("cgroup.controllers") {
        return (Version::V2, listed(&path.join("cgroup.controllers")));
    }
    let files = [
        (Controller::Cpu, "cpu.shares"),
        (Controller::CpuAcct, "cpuacct.usage"),
        (Controller::Memory, "memory.usage_in_bytes"),
        (Controller::Pids, "pids.max"),
    ];
    let found = files.into_iter().filter(|(_, file)| has(file));
    (
        Version::V1,
        found.map(|(controller, _)| controller).collect(),
    )
}
