//! The states of processes and runs as people read them.
//!
//! Where a state alone would mislead, people are told more: a process that never runs is skipped
//! and does not wait; a run that stopped because its task asked it to has not failed for them.
//! Programs read the states, and these facts beside them.

use std::fmt;

use super::status::{ProcessState, ProcessStatus, RunStatus};

/// The state of a process or a run, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InWords {
    /// The state says it all.
    State(ProcessState),
    /// It never runs.
    Skipped,
    /// It was asked to stop, and did so with this exit code.
    Stopped(i32),
}

impl RunStatus {
    /// The state of the run for people.
    pub fn in_words(&self) -> InWords {
        match self.exit_code.filter(|_| self.stopped) {
            Some(code) => InWords::Stopped(code),
            None => InWords::State(self.state.into()),
        }
    }
}

impl ProcessStatus {
    /// The state of the process for people.
    pub fn in_words(&self) -> InWords {
        let last = self.runs.last().map(RunStatus::in_words);
        match (self.state, last) {
            (ProcessState::Waiting, _) if self.skipped => InWords::Skipped,
            (ProcessState::Failed, Some(stopped @ InWords::Stopped(_))) => stopped,
            (state, _) => InWords::State(state),
        }
    }
}

impl fmt::Display for InWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InWords::State(state) => state.fmt(f),
            InWords::Skipped => f.pad("skipped"),
            InWords::Stopped(code) => f.pad(&format!("stopped (exit {code})")),
        }
    }
}
