//! How a command ends: exit codes (design law) and errors for people.

use std::{fmt, process::ExitCode};

use super::terminal::{complain, harmless};
use crate::{
    engine::{plan::TaskState, store::StoreError},
    journal::JournalError,
};

/// Exit codes of `run`, `attach`, `wait` and `fake-agent`; other verbs use the first three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Success = 0,
    /// The task FAILED; or there is no such task.
    Failed = 1,
    /// Rejected before anything started.
    Rejected = 2,
    Killed = 3,
    Lost = 4,
    /// A bug of ours.
    Internal = 70,
}

impl Code {
    /// The code of a terminal state.
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
    /// The message is complete: it has its own headings.
    rendered: bool,
}

pub(super) type Outcome = Result<Code, Failure>;

/// A task whose record cannot be trusted is LOST; everything else is a question that has no answer.
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let code = match is_distrust(&error) {
            true => Code::Lost,
            false => Code::Failed,
        };
        Failure::new(code, error)
    }
}

/// The record itself is bad; that it cannot be read just now (no descriptors, no rights) says nothing.
pub(crate) fn is_distrust(error: &StoreError) -> bool {
    match error {
        StoreError::Journal(JournalError::Io { .. }) => false,
        StoreError::Journal(_) => true,
        _ => false,
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

    /// A bug of ours, or a system that says no to what always works.
    pub fn internal(error: impl fmt::Display) -> Failure {
        Failure::new(Code::Internal, error)
    }

    /// Rejected before anything started.
    pub fn rejected(message: impl fmt::Display) -> Failure {
        Failure::new(Code::Rejected, message)
    }

    /// Diagnostics that show their places themselves.
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

    /// Prints it to standard error.
    pub fn report(&self) {
        // Names in it may be anybody's; what is rendered has seen to that itself.
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
