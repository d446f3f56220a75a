//! How a task stops: requests over HTTP, then signals, then SIGKILL.
//!
//! Each process has its own time to stop, all within one budget; at the end of the budget every
//! process is killed. Where a part of the budget is kept for final processes, the other processes
//! are killed so much earlier.

use super::{
    facts::{Command, Decision},
    member::Phase,
    state::TaskState,
    task::Plan,
};

/// Processes that take longer than this to stop are named, microseconds.
const PATIENCE_US: u64 = 1_000_000;

impl Plan {
    /// The stage CLEANING: what still runs is stopped. True when the state changed.
    pub(super) fn clean(&mut self, now: u64, decision: &mut Decision) -> bool {
        if self.empty && now < self.deadline {
            self.enter(TaskState::Finalizing, String::new(), now, decision);
            return true;
        }
        if now >= self.deadline {
            return self.finish(now, decision);
        }
        if now >= self.patience_ends() {
            self.kill_what_is_left(decision);
            return false;
        }
        if self.asks_over_http(now, decision) {
            return false;
        }
        if !std::mem::replace(&mut self.asked.stop, true) {
            self.asked.stopped_at = (self.asked.posts > 0).then_some(now);
            decision.commands.push(Command::StopAll);
            decision.commands.push(Command::AwaitEmpty);
        }
        if self.name_lingering_at().is_some_and(|at| now >= at) {
            self.asked.lingering = true;
            decision.commands.push(Command::TellLingering);
        }
        for process in self.overdue(now).collect::<Vec<_>>() {
            self.asked.killed_runs.insert(process);
            // The run's first process may be gone while its tree is not.
            let member = &self.members[process];
            let ended = u32::from(member.phase != Phase::Live);
            decision.commands.push(Command::KillRun {
                process,
                run: member.run.saturating_sub(ended),
            });
        }
        false
    }

    /// A task with a lifecycle is asked over HTTP before it is sent signals: twice, each time with
    /// some time to end. True while that goes on.
    fn asks_over_http(&mut self, now: u64, decision: &mut Decision) -> bool {
        let Some(waits) = self.post_us.filter(|_| !self.asked.stop) else {
            return false;
        };
        // A task that ends by itself is not asked.
        if self.kill.is_none() && self.unhealthy.is_none() {
            return false;
        }
        if self.asked.posts > 0 && now < self.asked.post_until {
            return true;
        }
        let Some(wait) = waits.get(self.asked.posts as usize) else {
            return false;
        };
        let abort = self.asked.posts > 0;
        self.asked.posts += 1;
        self.asked.post_until = now.saturating_add(*wait);
        decision.commands.push(Command::Post { abort });
        decision.commands.push(Command::AwaitEmpty);
        true
    }

    /// A request to end was not answered, or refused: if it is the present one, its time is over.
    pub fn post_failed(&mut self, abort: bool) {
        if self.asked.posts == 1 + u32::from(abort) {
            self.asked.post_until = 0;
        }
    }

    /// When to name the processes that have not stopped yet: once a stop, when most would have.
    pub(super) fn name_lingering_at(&self) -> Option<u64> {
        let asked_at = self.asked.stopped_at.unwrap_or(self.entered_at);
        let left = self.patience_ends().saturating_sub(asked_at);
        let at = asked_at + (left / 2).min(PATIENCE_US);
        (self.asked.stop && !self.asked.lingering && at < self.patience_ends()).then_some(at)
    }

    /// Processes whose own stop_timeout is over although the task's budget is not.
    fn overdue(&self, now: u64) -> impl Iterator<Item = usize> + '_ {
        (0..self.members.len()).filter(move |process| {
            !self.asked.killed_runs.contains(process)
                && self.stop_deadline(*process).is_some_and(|at| now >= at)
        })
    }

    /// When the process' own stop_timeout is over, if it has one and has ever run.
    pub(super) fn stop_deadline(&self, process: usize) -> Option<u64> {
        let member = &self.members[process];
        let stop_us = member.rules.stop_us?;
        let has_run = member.phase == Phase::Live || member.run > 0;
        // The time begins with the signal: requests over HTTP come before it.
        let asked_at = self.asked.stopped_at.unwrap_or(self.entered_at);
        has_run.then(|| asked_at.saturating_add(stop_us))
    }

    /// Kills the processes that are left; once none is, the task is over.
    pub(super) fn finish(&mut self, now: u64, decision: &mut Decision) -> bool {
        if self.empty {
            self.enter(self.outcome, String::new(), now, decision);
            return true;
        }
        self.kill_what_is_left(decision);
        false
    }

    /// SIGKILL to everything, once a stage.
    fn kill_what_is_left(&mut self, decision: &mut Decision) {
        if !std::mem::replace(&mut self.asked.kill, true) {
            decision.commands.push(Command::KillAll);
            decision.commands.push(Command::AwaitEmpty);
        }
    }
}
