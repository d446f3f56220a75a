//! Where the cgroups of tasks are made, and those that are left when their runs are over.
//!
//! A group with a process in it cannot be removed: it is tried again whenever a child has died.
//! Which run gets a group, and what is recorded of it, is said elsewhere.

use crate::resources::{Group, GroupError, Hierarchies, Limits, TaskGroup};

/// The place of all groups, and what waits in them.
#[derive(Default)]
pub(super) struct Cgroups {
    /// Where groups can be made; found when the first one is needed.
    hierarchies: Option<Box<Hierarchies>>,
    /// Groups of runs that are over, with something still in them.
    left: Vec<Group>,
    /// When to look again at the memory of which run.
    looks: Vec<(u64, usize)>,
}

impl Cgroups {
    fn hierarchies(&mut self) -> &Hierarchies {
        self.hierarchies
            .get_or_insert_with(|| Box::new(Hierarchies::find()))
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

    /// The group that an earlier keeper made in these directories, if it is still there.
    pub fn resume(&mut self, known: &[(String, u64)]) -> Option<TaskGroup> {
        TaskGroup::resume(self.hierarchies(), known)
    }

    /// Removes the group of a run that is over: now, or when nothing is in it any more.
    pub fn remove(&mut self, group: Group) {
        if !group.remove() {
            self.left.push(group);
        }
    }

    /// Removes the groups whose last process has gone meanwhile.
    pub fn remove_left(&mut self) {
        self.left.retain(|group| !group.remove());
    }

    /// Removes the group of a task that is over, with all groups in it.
    pub fn remove_task(&mut self, group: &TaskGroup) {
        self.left.clear();
        if !group.remove(self.hierarchies()) {
            tracing::warn!("cgroups are left: {:?}", group.group().directories());
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
