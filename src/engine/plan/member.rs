//! One process within the plan: its rules, its counts, and where it stands.

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
    /// Who waits for something of this one.
    pub after: Vec<usize>,
}

/// What one process waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// It has finished: an order.
    Finished,
    /// This is true of it.
    Holds(Condition),
}

/// Something that must be true of another process; once it was, it counts as true for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub process: usize,
    pub until: Until,
    pub met: bool,
}

/// Where a process stands. `Asked` is the only one that a replay forgets: the start is then asked
/// for again, and the keeper does it at most once.
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
    /// It runs.
    Live,
    /// Done: dependents may go on.
    Finished,
    /// Failed for good: dependents never start.
    Failed,
}

impl Phase {
    /// The process may still do something without anybody else's doing.
    pub fn is_open(self) -> bool {
        matches!(
            self,
            Phase::Ready | Phase::Pausing(_) | Phase::Asked | Phase::Live
        )
    }

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

/// What a process' past runs have come to: all that must be known of them when they are no longer
/// listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// How they ended.
    pub totals: Totals,
    /// How many of these failures were forgiven by a restart.
    pub forgiven: Totals,
    /// Runs in a row that were neither successful nor long.
    pub streak: u32,
    /// One became its program.
    pub started: bool,
    /// One was found healthy.
    pub healthy: bool,
    /// The process was over, and well.
    pub finished: bool,
    /// The process failed for good.
    pub failed: bool,
    /// What it waited for cannot come any more, and nobody needs it.
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

/// What others may wait for, of one process at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    phase: Phase,
    past: Past,
    gave_up: bool,
}

impl Outlook {
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

    /// It ended well, so what was meant for its failure is not needed; or it was not needed itself,
    /// and neither is what was meant for its runs.
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

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub rules: Rules,
    pub phase: Phase,
    pub needs: Vec<Need>,
    pub past: Past,
    /// The present run was found healthy.
    pub run_was_healthy: bool,
    /// Failed for good, even if that is nobody's concern.
    pub gave_up: bool,
    /// Why the present run has to end, if it has.
    pub ending: Option<Ending>,
    /// When the present run became its program; until then, when it was forked.
    pub began_at: u64,
    /// The number that the next run gets; the live run's while there is one.
    pub run: u32,
}

impl Member {
    pub fn new(rules: Rules, needs: Vec<Need>) -> Member {
        Member {
            phase: if needs.is_empty() {
                Phase::Ready
            } else {
                Phase::Blocked
            },
            needs,
            past: Past::default(),
            run_was_healthy: false,
            gave_up: false,
            ending: None,
            began_at: 0,
            rules,
            run: 0,
        }
    }

    /// What others may wait for.
    pub fn outlook(&self) -> Outlook {
        Outlook {
            phase: self.phase,
            past: self.past,
            gave_up: self.gave_up,
        }
    }

    /// Takes in that the present run ended at `at` microseconds; where the process stands then.
    pub fn ended(&mut self, exit: RunState, at: u64) -> Phase {
        let ending = self.ending.take();
        let state = match ending {
            Some(Ending::Failed) => RunState::Failed,
            Some(Ending::Restarted { .. }) => RunState::Killed,
            None => exit,
        };
        self.past.totals.add(state);
        self.run += 1;
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

    /// What failed before does not count any more.
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
