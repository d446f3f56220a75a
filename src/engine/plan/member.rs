//! One process within the plan: its rules, its counts, and its phase.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{backoff::Backoff, state::RunState};
use crate::task::Condition;

/// The rules of a process that matter to the plan.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    pub is_final: bool,
    pub daemon: bool,
    pub ephemeral: bool,
    /// 0: no limit.
    pub max_failures: u32,
    /// Runs without success; 0: no limit.
    pub max_runs: u32,
    pub backoff: Backoff,
    pub stop_us: Option<u64>,
    /// How long a run may take.
    pub timeout_us: Option<u64>,
    /// The processes that wait for a condition of this one.
    pub after: Vec<usize>,
}

/// A condition that one process waits for of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// The other process has finished: an order.
    Finished,
    /// This is true of the other process.
    Holds(Condition),
}

/// A condition that must be true of another process; once it was, it counts as true for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub process: usize,
    pub until: Until,
    pub met: bool,
}

/// The phase of a process. A replay forgets only `Asked`: the start is then asked for again, and
/// the keeper does it at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Predecessors are unfinished.
    Blocked,
    /// May start as soon as there is room.
    Ready,
    /// May start from this moment on.
    Pausing(u64),
    /// Its start was asked for.
    Asked,
    /// A run of it lives.
    Live,
    /// Done: dependents may go on.
    Finished,
    /// Failed for good: dependents never start.
    Failed,
}

impl Phase {
    /// True when the process may still start or end by itself.
    pub fn is_open(self) -> bool {
        matches!(
            self,
            Phase::Ready | Phase::Pausing(_) | Phase::Asked | Phase::Live
        )
    }

    /// True when the process is over, well or not.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Finished | Phase::Failed)
    }
}

/// Why a run that lives has to end, whatever its exit code will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has failed: it is unhealthy, or has run for longer than it may.
    Failed,
    /// A client asked for a restart of the process.
    Restarted {
        /// When the restart was recorded, microseconds of CLOCK_BOOTTIME.
        at: u64,
    },
}

/// The result of a process' past runs: all that the plan has to know of them when they are no
/// longer listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// How many runs ended in which state.
    pub totals: Totals,
    /// How many of these runs were forgiven by a restart.
    pub forgiven: Totals,
    /// Runs in a row that were neither successful nor long.
    pub streak: u32,
    /// True once a run became its program.
    pub started: bool,
    /// True once a run was found healthy.
    pub healthy: bool,
    /// True once the process was over, and well.
    pub finished: bool,
    /// True once the process failed for good.
    pub failed: bool,
    /// True once a condition that it waited for could not come true any more: it is not needed.
    pub skipped: bool,
}

/// How many runs ended in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Runs that exited with 0.
    pub success: u32,
    /// Runs that count as failures.
    pub failed: u32,
    /// Runs that a signal from outside ended.
    pub killed: u32,
    /// Runs whose exit code could not be learnt.
    pub lost: u32,
}

impl Totals {
    /// Counts one more run that ended in `state`; live states count nothing.
    pub fn add(&mut self, state: RunState) {
        match state {
            RunState::Success => self.success += 1,
            RunState::Failed => self.failed += 1,
            RunState::Killed => self.killed += 1,
            RunState::Lost => self.lost += 1,
            RunState::Forked | RunState::Running => {}
        }
    }

    /// How many runs there were.
    pub fn runs(&self) -> u32 {
        self.success + self.unsuccessful()
    }

    /// How many of them were no success.
    pub fn unsuccessful(&self) -> u32 {
        self.failed + self.killed + self.lost
    }
}

/// The facts about one process that others may wait for, at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    phase: Phase,
    past: Past,
    gave_up: bool,
}

impl Outlook {
    /// True when the condition is met.
    pub fn satisfies(self, until: Until) -> bool {
        let past = self.past;
        match until {
            Until::Finished => past.finished,
            Until::Holds(Condition::Started) => past.started,
            Until::Holds(Condition::Healthy) => past.healthy,
            Until::Holds(Condition::Succeeded) => past.totals.success > 0,
            Until::Holds(Condition::Completed) => past.finished || past.failed,
            Until::Holds(Condition::Failed) => past.failed,
        }
    }

    /// True when the condition cannot be met any more. A process that ended well rules out what
    /// waits for its failure; a process that was skipped rules out what waits for its runs.
    pub fn rules_out(self, until: Until) -> bool {
        match until {
            Until::Holds(Condition::Failed) => self.phase == Phase::Finished && !self.gave_up,
            Until::Holds(Condition::Started | Condition::Healthy | Condition::Succeeded) => {
                self.past.skipped
            }
            Until::Finished | Until::Holds(Condition::Completed) => false,
        }
    }
}

/// One process of the plan.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub rules: Rules,
    pub phase: Phase,
    pub needs: Vec<Need>,
    pub past: Past,
    /// The present run became its program.
    pub run_has_begun: bool,
    /// The present run was found healthy.
    pub run_was_healthy: bool,
    /// It failed for good, even if that does not count because it is ephemeral.
    pub gave_up: bool,
    /// Why the present run has to end, if it has to.
    pub ending: Option<Ending>,
    /// When the present run became its program; until then, when it was forked.
    pub began_at: u64,
    /// The number that the next run gets; the live run's while there is one.
    pub run: u32,
}

impl Member {
    /// A process before its first run.
    pub fn new(rules: Rules, needs: Vec<Need>) -> Member {
        Member {
            phase: if needs.is_empty() {
                Phase::Ready
            } else {
                Phase::Blocked
            },
            needs,
            past: Past::default(),
            run_has_begun: false,
            run_was_healthy: false,
            gave_up: false,
            ending: None,
            began_at: 0,
            rules,
            run: 0,
        }
    }

    /// The facts that others may wait for.
    pub fn outlook(&self) -> Outlook {
        Outlook {
            phase: self.phase,
            past: self.past,
            gave_up: self.gave_up,
        }
    }

    /// Takes in that the present run ended at `at` microseconds; returns the phase that follows.
    pub fn ended(&mut self, exit: RunState, at: u64) -> Phase {
        let ending = self.ending.take();
        let state = match ending {
            Some(Ending::Failed) => RunState::Failed,
            Some(Ending::Restarted { .. }) => RunState::Killed,
            None => exit,
        };
        self.past.totals.add(state);
        self.run += 1;
        self.run_has_begun = false;
        self.run_was_healthy = false;
        if matches!(ending, Some(Ending::Restarted { .. })) {
            self.forgive();
            return Phase::Ready;
        }
        let ran_us = at.saturating_sub(self.began_at);
        let is_good = state == RunState::Success || self.rules.backoff.is_long(ran_us);
        self.past.streak = match is_good {
            true => 0,
            false => self.past.streak.saturating_add(1),
        };
        let limit = |limit: u32, count: u32| limit != 0 && count >= limit;
        let exhausted = limit(self.rules.max_runs, self.unsuccessful());
        match state {
            RunState::Success if self.rules.daemon => self.pausing_from(at),
            RunState::Success => Phase::Finished,
            RunState::Failed if limit(self.rules.max_failures, self.failures()) => self.given_up(),
            _ if exhausted => self.given_up(),
            _ => self.pausing_from(at),
        }
    }

    /// The pause that begins at `at`.
    pub fn pausing_from(&self, at: u64) -> Phase {
        let pause = self.rules.backoff.pause_us(self.past.streak, self.run);
        Phase::Pausing(at.saturating_add(pause))
    }

    /// Failures that count against max_failures.
    pub fn failures(&self) -> u32 {
        self.past.totals.failed - self.past.forgiven.failed
    }

    /// Runs that count against max_runs.
    pub fn unsuccessful(&self) -> u32 {
        self.past.totals.unsuccessful() - self.past.forgiven.unsuccessful()
    }

    /// Failures so far do not count any more.
    pub fn forgive(&mut self) {
        self.past.forgiven = self.past.totals;
        self.past.streak = 0;
        self.gave_up = false;
    }

    /// An ephemeral process that fails for good is merely finished.
    fn given_up(&mut self) -> Phase {
        self.gave_up = true;
        self.past.failed = true;
        if self.rules.ephemeral {
            Phase::Finished
        } else {
            Phase::Failed
        }
    }
}
