//! The group of a task, for the keeper that looks after it.
//!
//! The group is locked as long as that keeper lives, so that the next one that makes a group in the
//! same place can remove what keepers that died have left there.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use super::{
    cgroupfs::{OWN_LEAF, PREFIX},
    group::Group,
    group_dir::{GroupDir, collect, remove_tree},
    hierarchies::{Hierarchies, Hierarchy},
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
    name: String,
    group: Group,
    locks: Vec<Flock<File>>,
    /// Its runs can have limits.
    is_complete: bool,
}

impl TaskGroup {
    /// Makes a group called `name`, or `name` with a number when there is one, in the one hierarchy
    /// that tells which processes are the task's.
    ///
    /// # Errors
    /// What the kernel says; no group is left then.
    pub fn make_tracking(hierarchy: &Hierarchy, name: &str) -> io::Result<TaskGroup> {
        TaskGroup::make_in(std::slice::from_ref(hierarchy), name)
    }

    /// Makes a group in all hierarchies, with `limits` for all that is in it. Limits that cannot be
    /// had are returned if this is `best_effort`.
    ///
    /// # Errors
    /// See [`GroupError`]; no group is left then.
    pub fn make(
        hierarchies: &Hierarchies,
        name: &str,
        limits: &Limits,
        best_effort: bool,
    ) -> Result<(TaskGroup, Vec<LimitError>), GroupError> {
        make_room(hierarchies)?;
        let mut made = TaskGroup::make_in(&hierarchies.all, name)?;
        match made.limit(limits, best_effort) {
            Ok(problems) => Ok((made, problems)),
            Err(error) => {
                made.group.remove();
                Err(error)
            }
        }
    }

    fn make_in(places: &[Hierarchy], name: &str) -> io::Result<TaskGroup> {
        let (group, locks) = make_called(&places.iter().collect::<Vec<_>>(), name)?;
        Ok(TaskGroup {
            name: name_of(&group).unwrap_or_else(|| name.to_owned()),
            group,
            locks,
            is_complete: false,
        })
    }

    /// Extends the group to all hierarchies, with `limits` for all that is in it: a run needs
    /// limits. Limits that cannot be had are returned if this is `best_effort`.
    ///
    /// # Errors
    /// See [`GroupError`]; the group is as it was then.
    pub fn complete(
        &mut self,
        hierarchies: &Hierarchies,
        limits: &Limits,
        best_effort: bool,
    ) -> Result<Vec<LimitError>, GroupError> {
        make_room(hierarchies)?;
        let before = self.group.clone();
        let is_missing = |place: &&Hierarchy| dir_of(&before, place).is_none();
        let missing: Vec<&Hierarchy> = hierarchies.all.iter().filter(is_missing).collect();
        // A name that is free in one hierarchy may be taken in another.
        let (added, locks) = make_called(&missing, &self.name)?;
        let known = hierarchies.all.iter().filter_map(|place| {
            let dir = dir_of(&before, place).or_else(|| dir_of(&added, place))?;
            Some(GroupDir {
                controllers: place.controllers.clone(),
                ..dir.clone()
            })
        });
        let is_unknown = |dir: &&GroupDir| {
            let mut places = hierarchies.all.iter();
            !places.any(|place| dir.path.parent() == Some(&place.base))
        };
        let others = before.dirs().iter().filter(is_unknown).cloned();
        self.group = Group::in_dirs(known.chain(others).collect());
        match self.limit(limits, best_effort) {
            Ok(problems) => {
                self.locks.extend(locks);
                Ok(problems)
            }
            Err(error) => {
                self.group = before;
                added.remove();
                Err(error)
            }
        }
    }

    /// Sets what all that is in it may use, and lets the groups of runs have limits of their own.
    fn limit(&mut self, limits: &Limits, best_effort: bool) -> Result<Vec<LimitError>, GroupError> {
        let problems = self.group.apply(limits);
        if let Some(error) = problems.first()
            && !best_effort
        {
            return Err(error.clone().into());
        }
        let mut dirs = self.group.dirs().iter();
        dirs.try_for_each(GroupDir::enable_below)?;
        self.is_complete = true;
        Ok(problems)
    }

    /// True when its runs can have limits.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The part of the group in which every run has a group of its own.
    pub fn tracking(&self) -> Group {
        self.group.tracking()
    }

    /// Locks the group that an earlier keeper made for this task. `None` when it is not there any
    /// more, or only in part: no process was in it, and in the moment between the two keepers, when
    /// it was not locked, the keeper of another task removed it.
    pub fn resume(hierarchies: &Hierarchies, known: &[(String, u64)]) -> Option<TaskGroup> {
        let group = Group::known(hierarchies, known);
        let locked = group.dirs().iter().map(|dir| {
            let file = File::open(&dir.path).ok()?;
            // Whoever looks for groups that are left holds the lock for a moment: that is waited
            // for. Without the lock the name could become another task's under our hands.
            let lock = Flock::lock(file, FlockArg::LockShared).ok()?;
            let now = fs::metadata(&dir.path).ok()?;
            (lock.metadata().ok()?.ino() == now.ino()).then_some(lock)
        });
        let locks: Option<Vec<Flock<File>>> = locked.collect();
        match locks {
            Some(locks) if group.dirs().len() == known.len() && !known.is_empty() => {
                Some(TaskGroup {
                    name: name_of(&group)?,
                    group,
                    locks,
                    // Completing what is complete changes nothing.
                    is_complete: false,
                })
            }
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

    /// Removes the group and the groups below it; false when processes are still in it.
    pub fn remove(&self) -> bool {
        self.group.remove()
    }
}

/// Makes and locks a group in these hierarchies, called `name`, or `name` with a number where that
/// is taken.
fn make_called(places: &[&Hierarchy], name: &str) -> io::Result<(Group, Vec<Flock<File>>)> {
    /// Tasks of the same name below one group, at most.
    const NAMESAKES: u32 = 10_000;
    for number in 1..NAMESAKES {
        let name = match number {
            1 => name.to_owned(),
            more => format!("{name}.{more}"),
        };
        let dirs: Vec<GroupDir> = places.iter().map(|place| dir_in(place, &name)).collect();
        // One that is left of a keeper that died has the name of the next task of that name.
        for dir in &dirs {
            remove_abandoned(&dir.path);
        }
        let group = Group::in_dirs(dirs);
        match group.make_each(GroupDir::make_locked) {
            Ok(locks) => return Ok((group, locks)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The directory that a group has in a hierarchy.
fn dir_of<'g>(group: &'g Group, hierarchy: &Hierarchy) -> Option<&'g GroupDir> {
    let mut dirs = group.dirs().iter();
    dirs.find(|dir| dir.path.parent() == Some(&hierarchy.base))
}

/// The directory of the group `name` in a hierarchy.
fn dir_in(hierarchy: &Hierarchy, name: &str) -> GroupDir {
    GroupDir {
        version: hierarchy.version,
        controllers: hierarchy.controllers.clone(),
        path: hierarchy.base.join(name),
    }
}

/// The name that the directories of a group have in common.
fn name_of(group: &Group) -> Option<String> {
    let name = group.dirs().first()?.path.file_name()?;
    Some(name.to_string_lossy().into_owned())
}

/// Lets all hierarchies have groups with limits, and removes what keepers that died have left.
fn make_room(hierarchies: &Hierarchies) -> io::Result<()> {
    for hierarchy in &hierarchies.all {
        hierarchy.prepare()?;
        sweep(&hierarchy.base);
    }
    Ok(())
}

/// Removes groups of tasks below `base` that no keeper has locked and no process is in.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_systemds = [".slice", ".scope", ".service"]
            .iter()
            .any(|end| name.ends_with(end));
        if name.starts_with(PREFIX) && name != OWN_LEAF && !is_systemds {
            remove_abandoned(&entry.path());
        }
    }
}

/// Removes the group at `path`, unless a keeper has locked it or a process is in it.
fn remove_abandoned(path: &Path) {
    let Ok(file) = File::open(path) else { return };
    if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok_and(|_lock| {
        let mut inside = Vec::new();
        collect(path, &mut inside);
        inside.is_empty() && !remove_tree(path)
    }) {
        tracing::debug!("{} is left", path.display());
    }
}
