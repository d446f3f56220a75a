//! The cgroups that launches need: made when a run or its task has limits, removed with them.
//!
//! A task gets one when the first of its runs needs one. It is told by a record, because a
//! successor of this keeper must find it: in a place that depends on where its keeper was started.

use super::{error::LaunchError, keeper::Keeper, spawn::limits_of};
use crate::{
    engine::ipc::Key,
    journal::{Groups, Kind},
    protocols::dewar::link as wire,
    resources::{Group, GroupError, group_name},
};

/// The group of a run that is being launched, and its name below the task's.
pub(super) struct RunGroup {
    pub name: Box<str>,
    pub group: Group,
}

impl Keeper {
    /// Makes the group of a run that has limits, or whose task has.
    ///
    /// # Errors
    /// It cannot have the limits that it must have: then it must not run.
    pub(super) fn group_for(
        &mut self,
        key: Key,
        command: &wire::Launch,
    ) -> Result<Option<RunGroup>, LaunchError> {
        if command.limits.is_none() && command.task_limits.is_none() {
            return Ok(None);
        }
        let wanted = command.limits.unwrap_or_default();
        let is_strict = match &command.task_limits {
            Some(limits) => !limits.best_effort,
            None => !wanted.best_effort,
        };
        match self.task_group(key, command.task_limits.as_ref()) {
            Err(error) if !is_strict => {
                self.tell_once(key, format!("not enforced: {error}"));
                return Ok(None);
            }
            made => made?,
        }
        match self.run_group(key, command, &wanted) {
            Ok(made) => Ok(Some(made)),
            Err(error) if wanted.best_effort && !is_strict => {
                self.tell_once(key, format!("not enforced: {error}"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the group of a run, in that of its task.
    fn run_group(
        &mut self,
        key: Key,
        command: &wire::Launch,
        wanted: &wire::Limits,
    ) -> Result<RunGroup, GroupError> {
        let make = |keeper: &Keeper| {
            let kept = keeper
                .tasks
                .get(key.task)
                .and_then(|kept| kept.group.as_ref());
            let kept = kept.ok_or_else(|| std::io::Error::other("its task has no group"))?;
            kept.group().make_for(&command.name, key.run)
        };
        let (name, group) = match make(self) {
            // In the moment between two keepers the task's group was taken for a dead one's and
            // removed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if let Some(kept) = self.tasks.get_mut(key.task) {
                    kept.group = None;
                }
                self.task_group(key, command.task_limits.as_ref())?;
                make(self)?
            }
            made => made?,
        };
        let problems = group.apply(&limits_of(wanted));
        if wanted.best_effort {
            for problem in problems {
                self.tell_once(key, format!("not enforced: {problem}"));
            }
        } else if let Some(problem) = problems.into_iter().next() {
            group.remove();
            return Err(problem.into());
        }
        Ok(RunGroup {
            name: name.into(),
            group,
        })
    }

    /// Makes the group of a task, unless it is there.
    fn task_group(&mut self, key: Key, limits: Option<&wire::Limits>) -> Result<(), GroupError> {
        let Some(kept) = self.tasks.get(key.task) else {
            return Ok(());
        };
        if kept.group.is_some() {
            return Ok(());
        }
        let name = group_name(&kept.task_id);
        let best_effort = limits.is_some_and(|limits| limits.best_effort);
        let limits = limits.map(limits_of).unwrap_or_default();
        let (made, problems) = self.cgroups.make(&name, &limits, best_effort)?;
        let groups = Groups {
            directories: made.group().directories(),
            inodes: made.group().inodes(),
        };
        if let Some(kept) = self.tasks.get_mut(key.task) {
            kept.group = Some(made);
        }
        self.record(key.task, Kind::Groups(groups));
        for problem in problems {
            self.notice_of(key.task, format!("not enforced: {problem}"), None);
        }
        Ok(())
    }

    /// The group of a health check's script: its run's, or one of its own below its task's.
    pub(super) fn script_group(
        &self,
        about: &wire::Probed,
        command: &wire::Launch,
        slot: usize,
    ) -> Option<Group> {
        let key = Key {
            task: about.task,
            process: command.process,
            run: command.run,
        };
        let run = about.process.and_then(|_| self.runs.find(key));
        if let Some(group) = run.and_then(|index| self.tasks.group_of(self.runs.get(index)?)) {
            return Some(group);
        }
        // Limits of the task as a whole are meant for its health checks too.
        let group = self
            .tasks
            .group(about.task)?
            .below(&script_group_name(slot));
        match group.make() {
            Ok(()) => Some(group),
            Err(error) => {
                tracing::warn!("a health check runs in no group: {error}");
                None
            }
        }
    }

    /// Tells what is the same for every run of a process, once.
    pub(super) fn tell_once(&mut self, key: Key, text: String) {
        if key.run == 0 {
            self.notice(text, key);
        }
    }

    /// Finds the group that an earlier keeper made for a task.
    pub(super) fn resume_groups(&mut self, task: u32, known: &[(String, u64)]) {
        let group = self.cgroups.resume(known);
        if let Some(kept) = self.tasks.get_mut(task) {
            kept.group = group;
        }
    }

    /// A health check's script is over, and its own group with it, if it had one.
    pub(super) fn remove_script_group(&mut self, task: u32, slot: usize) {
        if let Some(group) = self.tasks.group(task) {
            self.cgroups.remove(group.below(&script_group_name(slot)));
        }
    }

    /// The keeper leaves, after which no process would remove what is left.
    pub(super) fn remove_all_groups(&mut self) {
        for task in self.tasks.numbers() {
            self.remove_groups(task);
        }
    }

    /// The task is over: so are its groups.
    pub(super) fn remove_groups(&mut self, task: u32) {
        let group = self.tasks.get_mut(task).and_then(|kept| kept.group.take());
        if let Some(group) = group {
            self.cgroups.remove_task(&group);
        }
    }
}

fn script_group_name(slot: usize) -> String {
    format!("health.{slot}")
}
