//! Where a process stands and why, for people who ask.

use super::{
    interventions::times_out_at,
    member::{Ending, Phase, Until},
    state::TaskState,
    task::Plan,
};
use crate::task::Condition;

/// What a process does or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Something of another process is not true yet.
    Blocked,
    /// Its turn has not come: other processes fill max_concurrency, or its stage has not begun.
    Ready {
        /// How many of its stage run or start.
        running: u32,
    },
    /// It pauses before its next run.
    Pausing {
        /// Until this moment, microseconds of CLOCK_BOOTTIME.
        until: u64,
        /// Runs in a row that were neither successful nor long.
        streak: u32,
    },
    /// A start was asked for.
    Starting,
    /// It runs.
    Live {
        /// When it will have taken too long, microseconds of CLOCK_BOOTTIME.
        times_out_at: Option<u64>,
        /// It is being ended: it failed, or (true) somebody wants it anew.
        is_ending: Option<bool>,
    },
    /// It is over.
    Finished,
    /// Nobody needs it: what it waited for cannot come any more.
    Skipped,
    /// It failed for good.
    GaveUp {
        /// By max_failures; else by max_runs.
        by_failures: bool,
    },
}

/// What one process waits for of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The other's index in the task.
    pub process: usize,
    /// What must be true of it; `None`: an order, it has to finish well.
    pub condition: Option<Condition>,
    /// It is, or was.
    pub is_met: bool,
}

/// Why a process cannot be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRestart {
    /// The task is stopping or over.
    NotActive,
    /// It is a final process.
    Final,
    /// It has not begun: what it waits for is not true yet.
    Blocked,
    /// Nobody needs it.
    Skipped,
}

impl Plan {
    /// Where a process stands.
    pub fn standing(&self, process: usize) -> Standing {
        let member = &self.members[process];
        let rules = &member.rules;
        match member.phase {
            Phase::Blocked => Standing::Blocked,
            Phase::Ready => Standing::Ready {
                running: self.running(rules.is_final),
            },
            Phase::Pausing(until) => Standing::Pausing {
                until,
                streak: member.past.streak,
            },
            Phase::Asked => Standing::Starting,
            Phase::Live => Standing::Live {
                times_out_at: times_out_at(member),
                is_ending: member
                    .ending
                    .map(|ending| matches!(ending, Ending::Restarted { .. })),
            },
            Phase::Finished if member.past.skipped => Standing::Skipped,
            Phase::Finished if !member.gave_up => Standing::Finished,
            Phase::Finished | Phase::Failed => Standing::GaveUp {
                by_failures: rules.max_failures != 0 && member.failures() >= rules.max_failures,
            },
        }
    }

    /// All that a process waits or waited for.
    pub fn needs(&self, process: usize) -> impl Iterator<Item = Need> + '_ {
        self.members[process].needs.iter().map(|need| Need {
            process: need.process,
            condition: match need.until {
                Until::Finished => None,
                Until::Holds(condition) => Some(condition),
            },
            is_met: need.met,
        })
    }

    /// Failures that count against max_failures, and runs that count against max_runs.
    pub fn counts(&self, process: usize) -> (u32, u32) {
        let member = &self.members[process];
        (member.failures(), member.unsuccessful())
    }

    /// Why a process cannot be restarted now, if it cannot.
    pub fn refuses_restart(&self, process: usize) -> Option<NoRestart> {
        let member = &self.members[process];
        match () {
            () if self.state != Some(TaskState::Active) => Some(NoRestart::NotActive),
            () if member.rules.is_final => Some(NoRestart::Final),
            () if member.phase == Phase::Blocked => Some(NoRestart::Blocked),
            () if member.past.skipped => Some(NoRestart::Skipped),
            () => None,
        }
    }
}
