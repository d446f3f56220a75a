//! How a command ends: exit codes (design law) and errors for people.

use std::{fmt, process::ExitCode};

use super::terminal::{complain, harmless};
use crate::engine::{client::SessionError, plan::TaskState, store::StoreError};

/// Exit codes of `run`, `attach`, `wait` and `fake-agent`; other verbs use the first three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Success = 0,
    /// The task is FAILED, or there is no such task.
    Failed = 1,
    /// The command was rejected before anything started.
    Rejected = 2,
    Killed = 3,
    Lost = 4,
    /// A bug in dewar.
    Internal = 70,
}

impl Code {
    /// The exit code of a terminal state; `None` for a state that is not terminal.
    pub fn of_state(state: TaskState) -> Option<Code> {
        match state {
            TaskState::Success => Some(Code::Success),
            TaskState::Failed => Some(Code::Failed),
            TaskState::Killed => Some(Code::Killed),
            TaskState::Lost => Some(Code::Lost),
            TaskState::Active | TaskState::Cleaning | TaskState::Finalizing => None,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        ExitCode::from(code as u8)
    }
}

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub code: Code,
    message: String,
    hint: Option<String>,
    /// The message has its own headings, so `error:` is not put in front.
    rendered: bool,
}

pub(super) type Outcome = Result<Code, Failure>;

/// A task whose journal cannot be trusted is LOST; any other error says nothing about the task.
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let code = match error.is_distrust() {
            true => Code::Lost,
            false => Code::Failed,
        };
        Failure::new(code, error)
    }
}

/// Why there is no conversation with a task's runner, and what to do about it.
impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Failure {
        match error {
            SessionError::Store(error) => error.into(),
            SessionError::Directory(_) | SessionError::Rejected(_) | SessionError::Replaced => {
                Failure::rejected(error)
            }
            SessionError::NeverBegan(_) => Failure::new(Code::Failed, error),
            SessionError::ExecutorGone(_) => Failure::new(Code::Lost, error)
                .hint("what became of the task is the Mesos agent's to say"),
            SessionError::TakeUpRefused(_) => Failure::new(Code::Lost, error),
            SessionError::NoAnswer(_) => {
                Failure::internal(error).hint("see engine.log beside its journal")
            }
            SessionError::Io(_) => Failure::internal(error),
        }
    }
}

impl Failure {
    pub fn new(code: Code, message: impl fmt::Display) -> Failure {
        Failure {
            code,
            message: message.to_string(),
            hint: None,
            rendered: false,
        }
    }

    /// A bug in dewar, or a system call that failed and never should.
    pub fn internal(error: impl fmt::Display) -> Failure {
        Failure::new(Code::Internal, error)
    }

    /// The command is rejected before anything starts.
    pub fn rejected(message: impl fmt::Display) -> Failure {
        Failure::new(Code::Rejected, message)
    }

    /// Diagnostics that already show where each mistake is.
    pub fn rendered(message: String) -> Failure {
        Failure {
            rendered: true,
            ..Failure::rejected(message)
        }
    }

    pub fn hint(self, hint: impl Into<String>) -> Failure {
        Failure {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Prints the failure and its hint to standard error.
    pub fn report(&self) {
        // Names in the message may come from other users and steer the terminal; rendered
        // diagnostics are escaped already.
        let lines = |text: &str| {
            text.split('\n')
                .map(harmless)
                .collect::<Vec<_>>()
                .join("\n")
        };
        if self.rendered {
            complain(&self.message);
        } else {
            complain(&format!("error: {}", lines(&self.message)));
        }
        if let Some(hint) = &self.hint {
            complain(&format!("hint: {}", lines(hint)));
        }
    }
}
