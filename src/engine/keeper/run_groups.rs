//! The cgroups of runs: every run has one where the machine allows it, with limits or without.
//!
//! A task gets one with the first of its runs. It is told by a record, because a successor of this
//! keeper must find it: in a place that depends on where its keeper was started. Without limits a
//! run that cannot have a group runs without one; with limits that is an error.

use std::os::fd::AsFd;

use super::{error::LaunchError, keeper::Keeper, spawn::limits_of};
use crate::{
    engine::ipc::Key,
    journal::{Groups, Kind},
    protocols::dewar::link as wire,
    resources::{Group, GroupError, TaskGroup, group_name},
};

/// What the names of the groups of health checks' scripts begin with.
const SCRIPTS: &str = "health";

/// The group of a run that is being launched, and its name below the task's.
pub(super) struct RunGroup {
    pub name: Box<str>,
    pub group: Group,
    /// It has limits, and its usage is told.
    pub limited: bool,
}

impl Keeper {
    /// Makes the group of a run.
    ///
    /// # Errors
    /// It cannot have the limits that it must have: then it must not run.
    pub(super) fn group_for(
        &mut self,
        key: Key,
        command: &wire::Launch,
    ) -> Result<Option<RunGroup>, LaunchError> {
        if command.limits.is_none() && command.task_limits.is_none() {
            return Ok(self.tracking_group(key, command));
        }
        let wanted = command.limits.unwrap_or_default();
        let is_strict = match &command.task_limits {
            Some(limits) => !limits.best_effort,
            None => !wanted.best_effort,
        };
        match self.task_group(key, command.task_limits.as_ref()) {
            Err(error) if !is_strict => {
                self.tell_once(key, format!("not enforced: {error}"));
                return Ok(self.tracking_group(key, command));
            }
            made => made?,
        }
        match self.run_group(key, command, &wanted) {
            Ok(made) => Ok(Some(made)),
            Err(error) if wanted.best_effort && !is_strict => {
                self.tell_once(key, format!("not enforced: {error}"));
                Ok(self.tracking_group(key, command))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the group of a run without limits, in that of its task; `None` where there can be
    /// none.
    fn tracking_group(&mut self, key: Key, command: &wire::Launch) -> Option<RunGroup> {
        /// The task's group may be taken away in the moment between two keepers.
        const ATTEMPTS: usize = 2;
        for _ in 0..ATTEMPTS {
            if self.tasks.get(key.task)?.group.is_none() {
                let made = self
                    .cgroups
                    .make_tracking(&group_name(&self.tasks.get(key.task)?.task_id))?;
                self.keep_group(key.task, made);
            }
            let group = self.tasks.get(key.task)?.group.as_ref()?.tracking();
            match group.make_for(&command.name, key.run) {
                Ok((name, group)) => {
                    return Some(RunGroup {
                        name: name.into(),
                        group,
                        limited: false,
                    });
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    self.tasks.get_mut(key.task)?.group = None;
                }
                Err(error) => {
                    tracing::warn!("a run has no group of its own: {error}");
                    return None;
                }
            }
        }
        None
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
            limited: true,
        })
    }

    /// Makes the group of a task whose runs can have limits, unless it is there.
    fn task_group(&mut self, key: Key, limits: Option<&wire::Limits>) -> Result<(), GroupError> {
        let best_effort = limits.is_some_and(|limits| limits.best_effort);
        let limits = limits.map(limits_of).unwrap_or_default();
        let Some(kept) = self.tasks.get_mut(key.task) else {
            return Ok(());
        };
        if kept.group.as_ref().is_some_and(TaskGroup::is_complete) {
            return Ok(());
        }
        // The runs without limits have one already, most of the time.
        if kept.group.is_none() {
            let name = group_name(&kept.task_id);
            kept.group = self.cgroups.make_tracking(&name);
        }
        let (group, problems) = match kept.group.take() {
            Some(mut group) => match self.cgroups.complete(&mut group, &limits, best_effort) {
                Ok(problems) => (group, problems),
                Err(error) => {
                    self.keep_group(key.task, group);
                    return Err(error);
                }
            },
            None => {
                let name = group_name(&kept.task_id);
                self.cgroups.make(&name, &limits, best_effort)?
            }
        };
        self.keep_group(key.task, group);
        for problem in problems {
            self.notice_of(key.task, format!("not enforced: {problem}"), None);
        }
        Ok(())
    }

    /// Keeps the group of a task, and tells of it.
    fn keep_group(&mut self, task: u32, made: TaskGroup) {
        let groups = Groups {
            directories: made.group().directories(),
            inodes: made.group().inodes(),
            tracking: !made.is_complete(),
        };
        if let Some(kept) = self.tasks.get_mut(task) {
            kept.group = Some(made);
        }
        self.record(task, Kind::Groups(groups));
    }

    /// Makes the group of a health check's script: below that of its run, whose limits hold for it,
    /// or below its task's. `None` where there can be none.
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
        let run = run.and_then(|index| self.runs.get(index));
        let of_run = run.and_then(|run| Some((run.limited, self.tasks.group_of(run)?)));
        let (is_limited, whole) = match of_run {
            Some(of_run) => of_run,
            // Limits of the task as a whole are meant for its health checks too.
            None => {
                let group = self.tasks.get(about.task)?.group.as_ref()?;
                (group.is_complete(), group.group().clone())
            }
        };
        let above = match is_limited {
            true => whole,
            false => whole.tracking(),
        };
        // What an earlier script of this slot has left may still be dying.
        match above.make_for(SCRIPTS, u32::try_from(slot).unwrap_or(u32::MAX)) {
            Ok((_, group)) => Some(group),
            Err(error) => {
                tracing::warn!("a health check runs in no group: {error}");
                None
            }
        }
    }

    /// Ends what the scripts of a dead keeper have left in their groups. `is_run` says which groups
    /// right below the task's are those of runs.
    pub(super) fn end_left_scripts(&mut self, task: u32, is_run: impl Fn(&str) -> bool) {
        let Some(group) = self.tasks.group(task).cloned() else {
            return;
        };
        let is_script = |name: &String| name.starts_with(&format!("{SCRIPTS}."));
        let mut found = Vec::new();
        for name in group.tracking().subgroups() {
            let below = group.below(&name);
            if is_run(&name) {
                let scripts = below.tracking().subgroups().into_iter().filter(is_script);
                found.extend(scripts.map(|name| below.below(&name)));
            } else if is_script(&name) {
                found.push(below);
            }
        }
        for group in found {
            group.kill();
            self.remove_group(None, group);
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

    /// Removes the group of a run or of a script that is over, as soon as it is empty.
    pub(super) fn remove_group(&mut self, of: Option<Key>, group: Group) {
        if let Some(event) = self.cgroups.remove(of, group)
            && let Err(error) = self.poller.watch_group(event.as_fd())
        {
            tracing::warn!("no event tells of an empty group: {error}");
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
            let poller = &self.poller;
            self.cgroups
                .remove_task(&group, |event| poller.forget(event.as_fd()));
        }
    }
}
