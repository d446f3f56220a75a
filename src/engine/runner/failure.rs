//! Why a runner leaves before its time, and what its keeper makes of that.
//!
//! Only what was read in a journal may be called a journal's fault, because the keeper then kills
//! everything. All else costs this runner: the keeper execs another one.

use std::io;

use thiserror::Error;

use crate::{
    engine::ipc::{DISTRUST, LinkError},
    journal::JournalError,
};

/// Why a runner cannot go on.
#[derive(Debug, Error)]
pub(super) enum RunnerError {
    /// A journal cannot be read, or is damaged.
    #[error("the journal cannot be trusted: {0}")]
    Journal(#[from] JournalError),
    /// A journal is empty, although its keeper has written records into it.
    #[error("the journal cannot be trusted: it is empty")]
    EmptyJournal,
    /// The task in a journal's header cannot be read.
    #[error("the journal cannot be trusted: {0}")]
    Header(serde_json::Error),
    /// A task that is to begin cannot be read.
    #[error("the runner cannot go on: a new task cannot be read: {0}")]
    NewTask(serde_json::Error),
    /// What the keeper sent is no report.
    #[error("the runner cannot go on: its link to the keeper is broken: {0}")]
    Link(#[from] LinkError),
    /// The system refuses what a runner needs.
    #[error("the runner cannot go on: {0}")]
    System(#[from] io::Error),
}

impl RunnerError {
    /// The exit code that tells the keeper.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunnerError::Journal(_) | RunnerError::EmptyJournal | RunnerError::Header(_) => {
                DISTRUST
            }
            RunnerError::NewTask(_) | RunnerError::Link(_) | RunnerError::System(_) => 70,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_journal_is_distrusted() {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let link = LinkError::Contradiction("it contradicts itself");
        assert_eq!(RunnerError::from(link).exit_code(), 70);
        assert_eq!(RunnerError::from(invalid()).exit_code(), 70);
        let journal = JournalError::Io {
            path: "journal".into(),
            source: invalid(),
        };
        assert_eq!(RunnerError::from(journal).exit_code(), DISTRUST);
    }
}
