//! The situation of a process, and why it cannot be restarted: answers for people.
//!
//! Nothing here changes a plan.

use super::{
    interventions::times_out_at,
    member::{Ending, Phase, Until},
    state::TaskState,
    task::Plan,
};
use crate::task::Condition;

/// The situation of a process: what it does or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// A condition that it waits for is not true yet.
    Blocked,
    /// Its turn has not come: other processes fill max_concurrency, or its stage has not begun.
    Ready {
        /// How many processes of its stage run or are being started.
        running: u32,
    },
    /// It pauses before its next run.
    Pausing {
        /// When the pause ends, microseconds of CLOCK_BOOTTIME.
        until: u64,
        /// Runs in a row that were neither successful nor long.
        streak: u32,
    },
    /// The keeper was asked to start it.
    Starting,
    /// A run of it lives.
    Live {
        /// When it will have taken too long, microseconds of CLOCK_BOOTTIME.
        times_out_at: Option<u64>,
        /// Why the run is being ended, if it is.
        ending: Option<Ending>,
    },
    /// It is over, and well.
    Finished,
    /// It is not needed: a condition that it waited for cannot come true any more.
    Skipped,
    /// It failed for good.
    GaveUp {
        /// True when max_failures was reached, false when max_runs was.
        by_failures: bool,
    },
}

/// A condition that one process waits for of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The other process' index in the task.
    pub process: usize,
    /// What must be true of the other process; `None` for an order: it has to finish well.
    pub condition: Option<Condition>,
    /// True once that was the case.
    pub is_met: bool,
}

/// Why a process cannot be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRestart {
    /// The task is stopping or over.
    NotActive,
    /// It is a final process.
    Final,
    /// It has not begun: a condition that it waits for is not true yet.
    Blocked,
    /// It was skipped, because it is not needed.
    Skipped,
}

impl Plan {
    /// What a process does or waits for.
    pub fn situation(&self, process: usize) -> Situation {
        let member = &self.members[process];
        let rules = &member.rules;
        match member.phase {
            Phase::Blocked => Situation::Blocked,
            Phase::Ready => Situation::Ready {
                running: self.running(rules.is_final),
            },
            Phase::Pausing(until) => Situation::Pausing {
                until,
                streak: member.past.streak,
            },
            Phase::Asked => Situation::Starting,
            Phase::Live => Situation::Live {
                times_out_at: times_out_at(member),
                ending: member.ending,
            },
            Phase::Finished if member.past.skipped => Situation::Skipped,
            Phase::Finished if !member.gave_up => Situation::Finished,
            Phase::Finished | Phase::Failed => Situation::GaveUp {
                by_failures: rules.max_failures != 0 && member.failures() >= rules.max_failures,
            },
        }
    }

    /// All conditions that a process waits or waited for.
    pub fn dependencies(&self, process: usize) -> impl Iterator<Item = Dependency> + '_ {
        self.members[process].needs.iter().map(|need| Dependency {
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
