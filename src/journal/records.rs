//! The record types, generated from `proto/journal.proto`, and what makes them pleasant to build.

use crate::{engine::plan, sys::clock::Moment};

pub use crate::protocols::dewar::journal::{
    Accepted, Acknowledged, Again, Checked, Closed, Cover, End, Exceeded, Exec, Executor, Frame,
    Groups, Header, Health, Init, KillRequest, LaunchFailure, Lost, Notice, Opened, Record,
    Restart, Signal, Snapshot, Stage, Start, Subscribed, TaskState, Tenure, TimedOut, Totals,
    Update, Usage, end::How, record::Kind,
};

impl Record {
    /// A record of `kind` that happened at `at`.
    pub fn new(at: Moment, kind: Kind) -> Record {
        Record {
            boot_us: at.boot_us,
            wall_us: at.wall_us,
            kind: Some(kind),
        }
    }

    /// When it happened.
    pub fn at(&self) -> Moment {
        Moment {
            boot_us: self.boot_us,
            wall_us: self.wall_us,
        }
    }
}

impl From<plan::TaskState> for TaskState {
    fn from(state: plan::TaskState) -> TaskState {
        match state {
            plan::TaskState::Active => TaskState::Active,
            plan::TaskState::Cleaning => TaskState::Cleaning,
            plan::TaskState::Finalizing => TaskState::Finalizing,
            plan::TaskState::Success => TaskState::Success,
            plan::TaskState::Failed => TaskState::Failed,
            plan::TaskState::Killed => TaskState::Killed,
            plan::TaskState::Lost => TaskState::Lost,
        }
    }
}

impl TaskState {
    /// The state as the plan knows it; `None` for a value that this version does not know.
    pub fn known(self) -> Option<plan::TaskState> {
        Some(match self {
            TaskState::Unspecified => return None,
            TaskState::Active => plan::TaskState::Active,
            TaskState::Cleaning => plan::TaskState::Cleaning,
            TaskState::Finalizing => plan::TaskState::Finalizing,
            TaskState::Success => plan::TaskState::Success,
            TaskState::Failed => plan::TaskState::Failed,
            TaskState::Killed => plan::TaskState::Killed,
            TaskState::Lost => plan::TaskState::Lost,
        })
    }
}
