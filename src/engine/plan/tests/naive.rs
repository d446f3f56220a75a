//! A second, slow implementation of the plan's rules, to compare the plan with.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    engine::plan::state::{RunState, TaskState},
    task::{Condition, Task},
};

/// The naive model: keeps every end and derives everything from the whole list each time.
pub(super) struct Naive<'t> {
    pub task: &'t Task,
    pub ends: Vec<(usize, RunState)>,
    /// Where in `ends` the last restart of a process was: what came before does not count.
    pub restarted: BTreeMap<usize, usize>,
    pub started: BTreeSet<usize>,
    pub healthy: BTreeSet<usize>,
    /// What was true once counts as true for ever.
    pub ever_succeeded: BTreeSet<usize>,
    pub ever_finished: BTreeSet<usize>,
    pub ever_gave_up: BTreeSet<usize>,
    pub skipped: BTreeSet<usize>,
}

impl<'t> Naive<'t> {
    pub fn new(task: &'t Task) -> Naive<'t> {
        Naive {
            task,
            ends: Vec::new(),
            restarted: BTreeMap::new(),
            started: BTreeSet::new(),
            healthy: BTreeSet::new(),
            ever_succeeded: BTreeSet::new(),
            ever_finished: BTreeSet::new(),
            ever_gave_up: BTreeSet::new(),
            skipped: BTreeSet::new(),
        }
    }

    /// Takes in what has become true.
    pub fn update(&mut self) {
        loop {
            let before = (self.ever_finished.len(), self.skipped.len());
            for process in 0..self.task.processes.len() {
                if self.count(process, RunState::Success) > 0 {
                    self.ever_succeeded.insert(process);
                }
                if self.has_finished(process) {
                    self.ever_finished.insert(process);
                }
                if self.gave_up(process) {
                    self.ever_gave_up.insert(process);
                }
            }
            for process in 0..self.task.processes.len() {
                if !self.waits_for(process).is_empty() && self.is_ruled_out(process) {
                    self.skipped.insert(process);
                }
            }
            if before == (self.ever_finished.len(), self.skipped.len()) {
                return;
            }
        }
    }

    /// Since its last restart.
    pub fn count(&self, process: usize, state: RunState) -> u32 {
        let from = self.restarted.get(&process).copied().unwrap_or_default();
        let of = self.ends[from..].iter();
        of.filter(|end| **end == (process, state)).count() as u32
    }

    pub fn has_failed(&self, process: usize) -> bool {
        !self.task.processes[process].ephemeral && self.gave_up(process)
    }

    pub fn gave_up(&self, process: usize) -> bool {
        let rules = &self.task.processes[process];
        if !rules.daemon && self.count(process, RunState::Success) > 0 {
            return false;
        }
        let failed = self.count(process, RunState::Failed);
        let losses = self.count(process, RunState::Killed) + self.count(process, RunState::Lost);
        let by_failures = rules.max_failures != 0 && failed >= rules.max_failures;
        let by_runs = rules.max_runs != 0 && failed + losses >= rules.max_runs;
        by_failures || by_runs
    }

    pub fn has_finished(&self, process: usize) -> bool {
        let rules = &self.task.processes[process];
        let succeeded = !rules.daemon && self.count(process, RunState::Success) > 0;
        succeeded || (rules.ephemeral && self.gave_up(process)) || self.is_skipped(process)
    }

    pub fn after(&self, process: usize) -> impl Iterator<Item = (usize, Condition)> + '_ {
        let after = self.task.processes[process].after.iter();
        after.filter_map(|(name, condition)| {
            let other = self.task.processes.iter().position(|p| p.name == *name);
            other.map(|other| (other, *condition))
        })
    }

    pub fn is_skipped(&self, process: usize) -> bool {
        self.skipped.contains(&process)
    }

    /// It was meant for the failure of something that ended well, or for the runs of something that
    /// was itself skipped.
    pub fn is_ruled_out(&self, process: usize) -> bool {
        self.after(process)
            .any(|(other, condition)| match condition {
                Condition::Failed => self.has_finished(other) && !self.gave_up(other),
                Condition::Completed => false,
                _ => self.is_skipped(other),
            })
    }

    pub fn holds(&self, process: usize, condition: Condition) -> bool {
        match condition {
            Condition::Started => self.started.contains(&process),
            Condition::Healthy => self.healthy.contains(&process),
            Condition::Succeeded => self.ever_succeeded.contains(&process),
            Condition::Completed => {
                self.ever_gave_up.contains(&process) || self.ever_finished.contains(&process)
            }
            Condition::Failed => self.ever_gave_up.contains(&process),
        }
    }

    /// What it still waits for.
    pub fn waits_for(&self, process: usize) -> Vec<usize> {
        let orders = self.predecessors(process);
        let orders = orders.filter(|other| !self.ever_finished.contains(other));
        let conditions = self.after(process);
        let conditions = conditions.filter(|(other, condition)| !self.holds(*other, *condition));
        orders.chain(conditions.map(|(other, _)| other)).collect()
    }

    /// It waits, maybe through others, for something that can move.
    pub fn may_come(&self, process: usize) -> bool {
        self.waits_for(process).into_iter().any(|other| {
            let is_over = self.has_failed(other) || self.has_finished(other);
            self.may_run(other) || (!is_over && self.may_come(other))
        })
    }

    /// It may run, or each of the processes that it waits for is not over and may itself come.
    pub fn can_come(&self, process: usize) -> bool {
        let is_over = |other: usize| self.has_failed(other) || self.has_finished(other);
        let mut waits_for = self.waits_for(process).into_iter();
        !is_over(process) && waits_for.all(|other| !is_over(other) && self.can_come(other))
    }

    pub fn predecessors(&self, process: usize) -> impl Iterator<Item = usize> + '_ {
        let name = &self.task.processes[process].name;
        let pairs = self.task.constraints.iter();
        pairs
            .filter(move |constraint| constraint.order.last() == Some(name))
            .filter_map(|constraint| {
                let from = &constraint.order[0];
                self.task.processes.iter().position(|p| p.name == *from)
            })
    }

    pub fn may_run(&self, process: usize) -> bool {
        self.waits_for(process).is_empty()
            && !self.has_failed(process)
            && !self.has_finished(process)
    }

    /// What the regular plan has come to by now.
    pub fn verdict(&self) -> Option<TaskState> {
        let regular: Vec<usize> = (0..self.task.processes.len())
            .filter(|process| !self.task.processes[*process].is_final)
            .collect();
        let counted: Vec<usize> = regular
            .iter()
            .copied()
            .filter(|process| !self.task.processes[*process].ephemeral)
            .collect();
        let failed = counted.iter().filter(|p| self.has_failed(**p)).count() as u32;
        let over = |p: &usize| self.has_failed(*p) || self.has_finished(*p);
        if self.task.max_failures != 0 && failed >= self.task.max_failures {
            return Some(TaskState::Failed);
        }
        if counted.iter().all(over) {
            return Some(TaskState::Success);
        }
        let stuck = counted
            .iter()
            .all(|p| over(p) || (!self.may_run(*p) && !self.may_come(*p)));
        stuck.then_some(TaskState::Failed)
    }
}
