//! One process within the plan: its rules, its counts, and where it stands.

use serde::{Deserialize, Serialize};

use super::state::RunState;

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
    /// Who must have finished first.
    pub before: Vec<usize>,
    /// Who waits for this one.
    pub after: Vec<usize>,
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub rules: Rules,
    pub phase: Phase,
    /// Predecessors that have not finished.
    pub unfinished: usize,
    pub totals: Totals,
    /// The number that the next run gets; the live run's while there is one.
    pub run: u32,
}

impl Member {
    pub fn new(rules: Rules) -> Member {
        let unfinished = rules.before.len();
        Member {
            phase: if unfinished == 0 {
                Phase::Ready
            } else {
                Phase::Blocked
            },
            unfinished,
            rules,
            totals: Totals::default(),
            run: 0,
        }
    }

    /// Where the process stands after a run that ended in `state` at `at` microseconds.
    pub fn after_run(&self, state: RunState, at: u64) -> Phase {
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
    fn given_up(&self) -> Phase {
        if self.rules.ephemeral {
            Phase::Finished
        } else {
            Phase::Failed
        }
    }
}
