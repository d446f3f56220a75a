//! The states of runs and tasks, under the names that Thermos gave them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of one run of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RunState {
    /// Its start is recorded, exec has not succeeded yet.
    Forked,
    /// It became its program: exec succeeded.
    Running,
    /// Exited with 0.
    Success,
    /// Exited with something else, crashed, or could not be launched.
    Failed,
    /// Ended by a signal from outside. Does not count as a failure.
    Killed,
    /// Its exit code could not be learnt. Does not count as a failure.
    Lost,
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TaskState {
    /// The regular processes run.
    Active,
    /// The processes that still run are asked to stop.
    Cleaning,
    /// The final processes run.
    Finalizing,
    /// Over, and well: every process that counts is done.
    Success,
    /// Over: too many failed processes, or nothing could go on.
    Failed,
    /// Over: it was asked to end.
    Killed,
    /// Over: its record cannot be kept or trusted.
    Lost,
}

/// How a run ended, as the kernel or the keeper tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Exited by itself with this code, 0 to 255.
    Code(u8),
    /// Died of this signal.
    Signal(i32),
    /// Killed because it had used up the memory that it may have.
    OutOfMemory,
    /// Never became the user's program.
    LaunchFailed,
    /// The exit code could not be learnt.
    Lost,
}

/// Signals that the kernel sends to a process that crashed.
const CRASHES: [i32; 9] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
    libc::SIGSYS,
    libc::SIGTRAP,
    libc::SIGXCPU,
    libc::SIGXFSZ,
];

impl Exit {
    /// The state that a run is in after this end.
    pub fn state(self) -> RunState {
        match self {
            Exit::Code(0) => RunState::Success,
            Exit::Signal(signal) if !CRASHES.contains(&signal) => RunState::Killed,
            Exit::Code(_) | Exit::Signal(_) | Exit::OutOfMemory | Exit::LaunchFailed => {
                RunState::Failed
            }
            Exit::Lost => RunState::Lost,
        }
    }
}

impl RunState {
    /// The name that scripts see.
    pub fn name(self) -> &'static str {
        match self {
            RunState::Forked => "FORKED",
            RunState::Running => "RUNNING",
            RunState::Success => "SUCCESS",
            RunState::Failed => "FAILED",
            RunState::Killed => "KILLED",
            RunState::Lost => "LOST",
        }
    }
}

impl TaskState {
    /// True for SUCCESS, FAILED, KILLED and LOST.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            TaskState::Success | TaskState::Failed | TaskState::Killed | TaskState::Lost
        )
    }

    /// The name that scripts see.
    pub fn name(self) -> &'static str {
        match self {
            TaskState::Active => "ACTIVE",
            TaskState::Cleaning => "CLEANING",
            TaskState::Finalizing => "FINALIZING",
            TaskState::Success => "SUCCESS",
            TaskState::Failed => "FAILED",
            TaskState::Killed => "KILLED",
            TaskState::Lost => "LOST",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_classified_by_who_caused_it() {
        assert_eq!(Exit::Code(0).state(), RunState::Success);
        assert_eq!(Exit::Code(137).state(), RunState::Failed);
        assert_eq!(Exit::Signal(libc::SIGKILL).state(), RunState::Killed);
        assert_eq!(Exit::Signal(libc::SIGTERM).state(), RunState::Killed);
        assert_eq!(Exit::Signal(libc::SIGSEGV).state(), RunState::Failed);
        assert_eq!(Exit::LaunchFailed.state(), RunState::Failed);
        assert_eq!(Exit::OutOfMemory.state(), RunState::Failed);
        assert_eq!(Exit::Lost.state(), RunState::Lost);
    }
}
