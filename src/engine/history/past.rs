//! Between the journal's types and the plan's: states of a task, how a run ended, totals of runs.

use crate::{
    engine::plan::{self, Exit, Past, Totals},
    journal::{self, How},
};

pub(super) fn past_of(past: &journal::Totals) -> Past {
    Past {
        totals: Totals {
            success: past.success,
            failed: past.failed,
            killed: past.killed,
            lost: past.lost,
        },
        forgiven: Totals {
            success: past.forgiven_success,
            failed: past.forgiven_failed,
            killed: past.forgiven_killed,
            lost: past.forgiven_lost,
        },
        streak: past.streak,
        started: past.started,
        healthy: past.healthy,
        finished: past.finished,
        failed: past.failed_for_good,
        skipped: past.skipped,
    }
}

pub(super) fn exit_of(how: Option<&How>, out_of_memory: bool) -> Exit {
    match how {
        Some(How::Signaled(signal)) if *signal as i32 == libc::SIGKILL && out_of_memory => {
            Exit::OutOfMemory
        }
        Some(How::Exited(code)) => Exit::Code(*code as u8),
        Some(How::Signaled(signal)) => Exit::Signal(*signal as i32),
        Some(How::LaunchFailed(_)) => Exit::LaunchFailed,
        Some(How::Lost(_)) | None => Exit::Lost,
    }
}

impl From<plan::TaskState> for journal::TaskState {
    fn from(state: plan::TaskState) -> journal::TaskState {
        match state {
            plan::TaskState::Active => journal::TaskState::Active,
            plan::TaskState::Cleaning => journal::TaskState::Cleaning,
            plan::TaskState::Finalizing => journal::TaskState::Finalizing,
            plan::TaskState::Success => journal::TaskState::Success,
            plan::TaskState::Failed => journal::TaskState::Failed,
            plan::TaskState::Killed => journal::TaskState::Killed,
            plan::TaskState::Lost => journal::TaskState::Lost,
        }
    }
}

impl journal::TaskState {
    /// The state as the plan knows it; `None` for a value that this version does not know.
    pub fn known(self) -> Option<plan::TaskState> {
        Some(match self {
            journal::TaskState::Unspecified => return None,
            journal::TaskState::Active => plan::TaskState::Active,
            journal::TaskState::Cleaning => plan::TaskState::Cleaning,
            journal::TaskState::Finalizing => plan::TaskState::Finalizing,
            journal::TaskState::Success => plan::TaskState::Success,
            journal::TaskState::Failed => plan::TaskState::Failed,
            journal::TaskState::Killed => plan::TaskState::Killed,
            journal::TaskState::Lost => plan::TaskState::Lost,
        })
    }
}
