//! Where the cgroups of tasks are made, and those of runs that are over and not yet empty.
//!
//! A group with a process in it cannot be removed: its end is told by the kernel (v2), else it is
//! tried again whenever a child has died. Which run gets a group, and what is recorded of it, is
//! said elsewhere.

use std::os::fd::OwnedFd;

use crate::{
    engine::ipc::Key,
    resources::{Group, GroupError, Hierarchies, Hierarchy, Limits, TaskGroup, tracking},
};

/// The group of a run that is over, with something still in it.
struct Left {
    /// `None`: of a health check's script.
    of: Option<Key>,
    group: Group,
    /// Tells when it is empty; `None` where the kernel does not tell.
    event: Option<OwnedFd>,
}

/// The place of all groups, and what waits in them.
#[derive(Default)]
pub(super) struct Cgroups {
    /// Where groups with limits can be made; found when the first one is needed.
    hierarchies: Option<Box<Hierarchies>>,
    /// Where the groups of all runs are made; found when the first one is needed. `None` within:
    /// there is no such place.
    tracking: Option<Option<Box<Hierarchy>>>,
    left: Vec<Left>,
    /// When to look again at the memory of which run.
    looks: Vec<(u64, usize)>,
}

impl Cgroups {
    fn hierarchies(&mut self) -> &Hierarchies {
        self.hierarchies
            .get_or_insert_with(|| Box::new(Hierarchies::find()))
    }

    /// Makes the group of a task in which its runs have groups without limits; `None` where there
    /// is no place for it.
    pub fn make_tracking(&mut self, name: &str) -> Option<TaskGroup> {
        let place = self.tracking.get_or_insert_with(|| match tracking() {
            Ok(hierarchy) => Some(Box::new(hierarchy)),
            Err(why) => {
                tracing::debug!("runs are told apart without cgroups: {why}");
                None
            }
        });
        match TaskGroup::make_tracking(place.as_deref()?, name) {
            Ok(made) => Some(made),
            Err(error) => {
                tracing::warn!("runs are told apart without cgroups: {error}");
                self.tracking = Some(None);
                None
            }
        }
    }

    /// Makes the group of a task; beside it, in words, what of `limits` cannot be enforced.
    ///
    /// # Errors
    /// The group cannot be made, or a limit cannot be had and `best_effort` is false.
    pub fn make(
        &mut self,
        name: &str,
        limits: &Limits,
        best_effort: bool,
    ) -> Result<(TaskGroup, Vec<String>), GroupError> {
        let (group, problems) = TaskGroup::make(self.hierarchies(), name, limits, best_effort)?;
        Ok((group, problems.iter().map(ToString::to_string).collect()))
    }

    /// Lets the runs of a task have limits from here on, as [`make`](Self::make).
    ///
    /// # Errors
    /// As there; the group is as it was then.
    pub fn complete(
        &mut self,
        group: &mut TaskGroup,
        limits: &Limits,
        best_effort: bool,
    ) -> Result<Vec<String>, GroupError> {
        let problems = group.complete(self.hierarchies(), limits, best_effort)?;
        Ok(problems.iter().map(ToString::to_string).collect())
    }

    /// The group that an earlier keeper made in these directories, if it is still there.
    pub fn resume(&mut self, known: &[(String, u64)]) -> Option<TaskGroup> {
        TaskGroup::resume(self.hierarchies(), known)
    }

    /// Removes the group of a run that is over, or of a health check's script: now, or when nothing
    /// is in it any more. Returns a descriptor to be watched for EPOLLPRI, which tells that.
    pub fn remove(&mut self, of: Option<Key>, group: Group) -> Option<&OwnedFd> {
        if group.remove() {
            return None;
        }
        let event = group.watch_emptiness().unwrap_or_else(|error| {
            tracing::debug!("no event tells of an empty group: {error}");
            None
        });
        // It may have become empty before that could be told.
        if group.remove() {
            return None;
        }
        self.left.push(Left { of, group, event });
        self.left.last()?.event.as_ref()
    }

    /// Removes the groups whose last process has gone meanwhile; `forget` is told the descriptors
    /// that are not watched any more.
    pub fn remove_left(&mut self, forget: impl Fn(&OwnedFd)) {
        self.left.retain(|left| {
            let is_left = !left.group.remove();
            if !is_left && let Some(event) = &left.event {
                forget(event);
            }
            is_left
        });
    }

    /// Kills what runs of the process of `key` before this one have left behind.
    pub fn kill_left(&self, key: Key) {
        for left in self.left.iter().filter(|left| precedes(left, key)) {
            left.group.kill();
        }
    }

    /// The processes that runs of the process of `key` before this one have left.
    pub fn processes_left(&self, key: Key) -> Vec<i32> {
        let left = self.left.iter().filter(|left| precedes(left, key));
        left.flat_map(|left| left.group.processes()).collect()
    }

    /// True while something lives that runs of the process of `key` before this one have left.
    pub fn has_left(&self, key: Key) -> bool {
        let mut left = self.left.iter().filter(|left| precedes(left, key));
        left.any(|left| left.group.is_populated())
    }

    /// Removes the group of a task that is over, with all groups in it.
    pub fn remove_task(&mut self, group: &TaskGroup, forget: impl Fn(&OwnedFd)) {
        let is_of = |left: &mut Left| left.group.is_below(group.group());
        for left in self.left.extract_if(.., is_of) {
            left.event.iter().for_each(&forget);
        }
        if !group.remove() {
            tracing::warn!("cgroups are left: {:?}", group.group().directories());
        }
        let place = self.tracking.as_ref().and_then(Option::as_deref);
        if self.hierarchies.is_some() || place.is_some_and(Hierarchy::is_prepared) {
            self.hierarchies().restore();
        }
    }

    /// Plans another look at the memory of a run.
    pub fn look_again(&mut self, index: usize, at: u64) {
        match self.looks.iter_mut().find(|(_, other)| *other == index) {
            Some((planned, _)) => *planned = at.min(*planned),
            None => self.looks.push((at, index)),
        }
    }

    /// The runs whose memory is to be looked at by `clock`, once.
    pub fn take_looks(&mut self, clock: u64) -> Vec<usize> {
        let due = self.looks.extract_if(.., |(at, _)| *at <= clock);
        due.map(|(_, index)| index).collect()
    }

    /// When the next look is due.
    pub fn look_due(&self) -> Option<u64> {
        self.looks.iter().map(|(at, _)| *at).min()
    }
}

/// True when this was left by an earlier run of the process that `key` is of.
fn precedes(left: &Left, key: Key) -> bool {
    left.of.is_some_and(|of| of.precedes(key))
}
