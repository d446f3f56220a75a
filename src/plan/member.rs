//! One process within the plan: its rules, its counts, and where it stands.

use serde::{Deserialize, Serialize};

use super::state::RunState;
use crate::config::Condition;

/// The rules of a process that matter to the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    pub is_final: bool,
    pub daemon: bool,
    pub ephemeral: bool,
    /// 0: no limit.
    pub max_failures: u32,
    /// Runs without success; 0: no limit.
    pub max_runs: u32,
    pub min_us: u64,
    pub stop_us: Option<u64>,
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

/// How many runs ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Exited with 0.
    pub success: u32,
    /// Counted as failures.
    pub failed: u32,
    /// Ended by a signal from outside.
    pub killed: u32,
    /// Nobody knows.
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
}

/// What others may wait for, of one process at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    phase: Phase,
    has_started: bool,
    was_healthy: bool,
    has_succeeded: bool,
    gave_up: bool,
    is_skipped: bool,
}

impl Outlook {
    pub fn satisfies(self, until: Until) -> bool {
        match until {
            Until::Finished => self.phase == Phase::Finished,
            Until::Holds(Condition::Started) => self.has_started,
            Until::Holds(Condition::Healthy) => self.was_healthy,
            Until::Holds(Condition::Succeeded) => self.has_succeeded,
            Until::Holds(Condition::Completed) => self.phase.is_over(),
            Until::Holds(Condition::Failed) => self.gave_up,
        }
    }

    /// It ended well, so what was meant for its failure is not needed; or it was not needed itself,
    /// and neither is what was meant for its runs.
    pub fn rules_out(self, until: Until) -> bool {
        match until {
            Until::Holds(Condition::Failed) => self.phase == Phase::Finished && !self.gave_up,
            Until::Holds(Condition::Started | Condition::Healthy | Condition::Succeeded) => {
                self.is_skipped
            }
            Until::Finished | Until::Holds(Condition::Completed) => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub rules: Rules,
    pub phase: Phase,
    pub needs: Vec<Need>,
    /// A run became its program.
    pub has_started: bool,
    /// A run was found healthy.
    pub was_healthy: bool,
    /// The present run was found healthy.
    pub run_was_healthy: bool,
    /// Failed for good, even if that is nobody's concern.
    pub gave_up: bool,
    /// What it waited for cannot come any more, and nobody needs it.
    pub is_skipped: bool,
    /// The present run was found unhealthy: whatever ends it, it has failed.
    pub is_unhealthy: bool,
    pub totals: Totals,
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
            has_started: false,
            was_healthy: false,
            run_was_healthy: false,
            gave_up: false,
            is_skipped: false,
            is_unhealthy: false,
            rules,
            totals: Totals::default(),
            run: 0,
        }
    }

    /// What others may wait for.
    pub fn outlook(&self) -> Outlook {
        Outlook {
            phase: self.phase,
            has_started: self.has_started,
            was_healthy: self.was_healthy,
            has_succeeded: self.totals.success > 0,
            gave_up: self.gave_up,
            is_skipped: self.is_skipped,
        }
    }

    /// Where the process stands after a run that ended in `state` at `at` microseconds.
    pub fn after_run(&mut self, state: RunState, at: u64) -> Phase {
        let again = Phase::Pausing(at.saturating_add(self.rules.min_us));
        let unsuccessful = self.totals.failed + self.totals.killed + self.totals.lost;
        let limit = |limit: u32, count: u32| limit != 0 && count >= limit;
        let exhausted = limit(self.rules.max_runs, unsuccessful);
        match state {
            RunState::Success if self.rules.daemon => again,
            RunState::Success => Phase::Finished,
            RunState::Failed if limit(self.rules.max_failures, self.totals.failed) => {
                self.given_up()
            }
            _ if exhausted => self.given_up(),
            _ => again,
        }
    }

    /// An ephemeral process that fails for good is merely finished.
    fn given_up(&mut self) -> Phase {
        self.gave_up = true;
        if self.rules.ephemeral {
            Phase::Finished
        } else {
            Phase::Failed
        }
    }
}
