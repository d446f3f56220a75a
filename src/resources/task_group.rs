//! The group of a task, for the keeper that looks after it.
//!
//! The group is locked as long as that keeper lives, so that the next one that makes a group in the
//! same place can remove what keepers that died have left there.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use super::{
    cgroupfs::{OWN_LEAF, PREFIX},
    group::Group,
    group_dir::{GroupDir, collect, remove_tree},
    hierarchies::Hierarchies,
    limits::{LimitError, Limits},
};

/// Why there is no group.
#[derive(Debug, Error)]
pub enum GroupError {
    /// A limit cannot be enforced here.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The kernel refuses a directory or a file of the group.
    #[error("cannot make a cgroup: {0}")]
    Io(#[from] io::Error),
}

/// The group of a task, locked until this is dropped.
#[derive(Debug)]
pub struct TaskGroup {
    group: Group,
    _locks: Vec<Flock<File>>,
}

impl TaskGroup {
    /// Makes a group called `name`, or `name` with a number when there is one, with `limits` for
    /// all that is in it. Groups in the same place whose keepers died are removed. Limits that
    /// cannot be had are returned if this is `best_effort`.
    ///
    /// # Errors
    /// See [`GroupError`]; no group is left then.
    pub fn make(
        hierarchies: &Hierarchies,
        name: &str,
        limits: &Limits,
        best_effort: bool,
    ) -> Result<(TaskGroup, Vec<LimitError>), GroupError> {
        /// Tasks of the same name below one group, at most.
        const NAMESAKES: u32 = 10_000;
        for hierarchy in &hierarchies.all {
            hierarchy.prepare()?;
            sweep(&hierarchy.base);
        }
        for number in 1..NAMESAKES {
            let name = match number {
                1 => name.to_owned(),
                more => format!("{name}.{more}"),
            };
            let dirs = hierarchies.all.iter().map(|hierarchy| GroupDir {
                version: hierarchy.version,
                controllers: hierarchy.controllers.clone(),
                path: hierarchy.base.join(&name),
            });
            let group = Group::in_dirs(dirs.collect());
            match group.make_each(GroupDir::make_locked) {
                Ok(locks) => {
                    let made = TaskGroup {
                        group,
                        _locks: locks,
                    };
                    return made.limited(limits, best_effort);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists).into())
    }

    fn limited(
        self,
        limits: &Limits,
        best_effort: bool,
    ) -> Result<(TaskGroup, Vec<LimitError>), GroupError> {
        let problems = self.group.apply(limits);
        let enabled = || {
            self.group
                .dirs()
                .iter()
                .try_for_each(GroupDir::enable_below)
        };
        let result = match problems.first() {
            Some(error) if !best_effort => Err(GroupError::from(error.clone())),
            _ => enabled().map_err(GroupError::from),
        };
        match result {
            Ok(()) => Ok((self, problems)),
            Err(error) => {
                self.group.remove();
                Err(error)
            }
        }
    }

    /// Locks the group that an earlier keeper made for this task. `None` when it is not there any
    /// more, or only in part: no process was in it, and in the moment between the two keepers, when
    /// it was not locked, the keeper of another task removed it.
    pub fn resume(hierarchies: &Hierarchies, known: &[(String, u64)]) -> Option<TaskGroup> {
        let group = Group::known(hierarchies, known);
        let locked = group.dirs().iter().map(|dir| {
            let file = File::open(&dir.path).ok()?;
            let lock = Flock::lock(file, FlockArg::LockSharedNonblock).ok()?;
            dir.path.exists().then_some(lock)
        });
        let locks: Option<Vec<Flock<File>>> = locked.collect();
        match locks {
            Some(locks) if group.dirs().len() == known.len() => Some(TaskGroup {
                group,
                _locks: locks,
            }),
            _ => {
                group.remove();
                None
            }
        }
    }

    /// The group itself.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Removes the group and the groups below it, and undoes what was changed above it; false when
    /// processes are still in it.
    pub fn remove(&self, hierarchies: &Hierarchies) -> bool {
        let removed = self.group.remove();
        for hierarchy in &hierarchies.all {
            hierarchy.restore();
        }
        removed
    }
}

/// Removes groups of tasks below `base` that no keeper has locked and no process is in.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_systemds = [".slice", ".scope", ".service"]
            .iter()
            .any(|end| name.ends_with(end));
        if !name.starts_with(PREFIX) || name == OWN_LEAF || is_systemds {
            continue;
        }
        let locked = File::open(entry.path())
            .ok()
            .and_then(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).ok());
        let mut inside = Vec::new();
        collect(&entry.path(), &mut inside);
        if locked.is_some() && inside.is_empty() {
            remove_tree(&entry.path());
        }
    }
}
