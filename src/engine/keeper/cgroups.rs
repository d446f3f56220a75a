//! The cgroups of tasks and runs: made at a launch, read at an end, removed when nothing is left in them.
//!
//! A task gets one when the first of its runs needs one. It is told by a record, because whoever comes
//! after us must find it: in a place that depends on where its keeper was started.

use std::os::fd::AsFd;

use super::{
    keeper::{Keeper, Token},
    runs::{Memory, Run},
    spawn::{bytes, limits_of},
    tasks::KeptTask,
};
use crate::{
    engine::ipc::Key,
    journal::{Groups, How, Kind, Usage},
    protocols::dewar::link as wire,
    resources::{Group, GroupError, Hierarchies, TaskGroup, group_name},
    sys::{clock::now, process},
};

/// The group of a run that is being launched, and its name below the task's.
pub(super) struct RunGroup {
    pub name: Box<str>,
    pub group: Group,
}

impl Keeper {
    /// Where groups can be made; looked for when it is first needed.
    fn site(&mut self) -> &Hierarchies {
        self.site
            .get_or_insert_with(|| Box::new(Hierarchies::find()))
    }

    /// Makes the group of a run that has limits, or whose task has.
    ///
    /// # Errors
    /// Why it cannot have what it needs: then it must not run.
    pub(super) fn group_for(
        &mut self,
        key: Key,
        command: &wire::Launch,
    ) -> Result<Option<RunGroup>, String> {
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
                self.told_once(key, format!("not enforced: {error}"));
                return Ok(None);
            }
            made => made.map_err(|error| error.to_string())?,
        }
        match self.run_group(key, command, &wanted) {
            Ok(made) => Ok(Some(made)),
            Err(error) if wanted.best_effort && !is_strict => {
                self.told_once(key, format!("not enforced: {error}"));
                Ok(None)
            }
            Err(error) => Err(error.to_string()),
        }
    }

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
            // Somebody took the task's group for a dead one's, in the moment between two keepers.
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
                self.told_once(key, format!("not enforced: {problem}"));
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
        let (made, problems) = TaskGroup::make(self.site(), &name, &limits, best_effort)?;
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
    pub(super) fn probe_group(
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
        if let Some(group) = run.and_then(|index| self.group_of(self.runs.get(index)?)) {
            return Some(group);
        }
        // Whoever limits the task as a whole means its health checks too.
        let group = self
            .task_groups(about.task)?
            .below(&format!("health.{slot}"));
        match group.make() {
            Ok(()) => Some(group),
            Err(error) => {
                tracing::warn!("a health check runs in no group: {error}");
                None
            }
        }
    }

    /// A run after the other has the same to say: once is enough.
    pub(super) fn told_once(&mut self, key: Key, text: String) {
        if key.run == 0 {
            self.notice(text, key);
        }
    }

    /// Finds the groups that an earlier keeper made.
    pub(super) fn resume_groups(&mut self, task: u32, known: &[(String, u64)]) {
        let group = TaskGroup::resume(self.site(), known);
        if let Some(kept) = self.tasks.get_mut(task) {
            kept.group = group;
        }
    }

    /// The group of a task.
    pub(super) fn task_groups(&self, task: u32) -> Option<&Group> {
        Some(self.tasks.get(task)?.group.as_ref()?.group())
    }

    fn group_of(&self, run: &Run) -> Option<Group> {
        let name = run.group.as_deref()?;
        Some(self.task_groups(run.key.task)?.below(name))
    }

    /// What a run used, for its end.
    pub(super) fn used_by(&self, index: usize) -> Option<Usage> {
        let group = self.group_of(self.runs.get(index)?)?;
        let used = group.usage();
        Some(Usage {
            cpu_us: used.cpu_us,
            throttled_us: used.throttled_us,
            memory_peak: used.memory_peak,
            memory_limit: used.memory_limit,
            oom_kills: used.oom_kills,
            pids_peak: used.pids_peak,
            pids_refused: used.pids_refused,
        })
    }

    /// Wants to be told when the memory of a run runs out. Its end tells too, so a run may do without.
    pub(super) fn watch_memory(&mut self, index: usize, is_new: bool) {
        let Some(group) = self.runs.get(index).and_then(|run| self.group_of(run)) else {
            return;
        };
        let told = match is_new {
            true => 0,
            false => group.usage().oom_kills.unwrap_or_default(),
        };
        let watched = group.watch_memory().and_then(|fd| {
            let Some(fd) = fd else { return Ok(None) };
            self.watch(fd.as_fd(), Token::Memory.number(index))?;
            Ok(Some(Memory {
                event: fd,
                told,
                told_at: 0,
            }))
        });
        match watched {
            Ok(memory) => {
                if let Some(run) = self.runs.get_mut(index) {
                    run.memory = memory;
                }
            }
            Err(error) => tracing::warn!("nobody tells when memory runs out: {error}"),
        }
    }

    pub(super) fn unwatch_memory(&mut self, index: usize) {
        if let Some(memory) = self.runs.get(index).and_then(|run| run.memory.as_ref()) {
            self.unwatch(memory.event.as_fd());
        }
    }

    /// Whether a run ended for memory: the kernel killed its first process, or something of it a moment before it ended
    /// with an error. What we ended ourselves did not. A kill that was not told yet and is no reason for the end is told.
    pub(super) fn ended_for_memory(&mut self, index: usize, usage: &Usage, how: &How) -> bool {
        /// From a helper's death to that of the process that missed it, microseconds.
        const MOMENT_US: u64 = 1_000_000;
        let Some(run) = self.runs.get(index) else {
            return false;
        };
        let (told, told_at) = match &run.memory {
            Some(memory) => (memory.told, memory.told_at),
            None => (0, 0),
        };
        let fresh = usage.oom_kills().saturating_sub(told);
        let is_recent = fresh > 0 || (told_at > 0 && now().boot_us < told_at + MOMENT_US);
        let is_killed = matches!(how, How::Signaled(signal) if *signal as i32 == libc::SIGKILL);
        let is_error = matches!(how, How::Exited(code) if *code > 0);
        let is_reason = !run.stopping && ((is_killed && fresh > 0) || (is_error && is_recent));
        if fresh > 0 && !is_reason {
            let text = killed_for_memory(fresh, usage.memory_limit, usage.memory_peak);
            self.notice(text, run.key);
        }
        is_reason
    }

    /// Something happened to a run's memory. v1 says so a moment before it has killed: hence a second look.
    pub(super) fn memory_spoke(&mut self, index: usize) {
        /// What the kernel may take for a kill, microseconds.
        const MOMENT_US: u64 = 50_000;
        self.memory_ran_out(index);
        if !self.memory_looks.iter().any(|(_, other)| *other == index) {
            self.memory_looks.push((now().boot_us + MOMENT_US, index));
        }
    }

    pub(super) fn look_at_memory(&mut self, clock: u64) {
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.memory_looks)
            .into_iter()
            .partition(|(at, _)| *at <= clock);
        self.memory_looks = later;
        for (_, index) in due {
            self.memory_ran_out(index);
        }
    }

    /// The kernel killed something of a run for its memory; if that was the first process, its end says it.
    fn memory_ran_out(&mut self, index: usize) {
        let Some(run) = self.runs.get(index) else {
            return;
        };
        let (key, pid) = (run.key, run.pid);
        let used = self.group_of(run).map(|group| group.usage());
        let used = used.unwrap_or_default();
        let run = self.runs.get_mut(index);
        let Some(memory) = run.and_then(|run| run.memory.as_mut()) else {
            return;
        };
        let mut events = [0; 4096];
        while matches!(nix::unistd::read(&memory.event, &mut events), Ok(1..)) {}
        let kills = used.oom_kills.unwrap_or_default();
        let fresh = kills.saturating_sub(memory.told);
        let lives = process::stat(pid).is_some_and(|stat| !stat.is_dead());
        if fresh > 0 && lives {
            memory.told = kills;
            memory.told_at = now().boot_us;
            let text = killed_for_memory(fresh, used.memory_limit, used.memory_peak);
            self.notice(text, key);
        }
    }

    /// A run is over and reaped: its group goes, unless something of it lives on.
    pub(super) fn forget_group(&mut self, run: &Run) {
        if let Some(group) = self.group_of(run)
            && !group.remove()
        {
            self.left_groups.push(group);
        }
    }

    /// A health check's script is over.
    pub(super) fn forget_probe_group(&mut self, task: u32, slot: usize) {
        if let Some(group) = self
            .task_groups(task)
            .map(|group| group.below(&format!("health.{slot}")))
            && !group.remove()
        {
            self.left_groups.push(group);
        }
    }

    /// Groups whose last process has gone meanwhile.
    pub(super) fn remove_left_groups(&mut self) {
        self.left_groups.retain(|group| !group.remove());
    }

    /// We leave, and whatever is left behind would be nobody's.
    pub(super) fn remove_all_groups(&mut self) {
        let all: Vec<u32> = self.tasks.iter().map(|(task, _)| task).collect();
        for task in all {
            self.remove_groups(task);
        }
    }

    /// The task is over: so are its groups.
    pub(super) fn remove_groups(&mut self, task: u32) {
        let group = self.tasks.get_mut(task).and_then(|kept| kept.group.take());
        let Some(group) = group else { return };
        self.left_groups.clear();
        let site = self.site();
        if !group.remove(site) {
            tracing::warn!("cgroups are left: {:?}", group.group().directories());
        }
    }
}

impl KeptTask {
    /// The processes in the task's group; none when it has no group.
    pub fn grouped(&self) -> Vec<i32> {
        let group = self.group.as_ref();
        group.map_or_else(Vec::new, |group| group.group().processes())
    }

    /// SIGKILL to all of them at once, where the kernel can.
    pub fn kill_grouped(&self) {
        if let Some(group) = &self.group {
            group.group().kill();
        }
    }
}

fn killed_for_memory(count: u64, limit: Option<u64>, peak: Option<u64>) -> String {
    let (limit, peak) = (bytes(limit), bytes(peak));
    format!("out of memory: the kernel killed {count} of its processes; limit {limit}, peak {peak}")
}
