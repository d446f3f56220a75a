//! Why a session could not begin, or could not go on. What that means for an exit code, and what to
//! do about it, is the caller's to say.

use std::io;

use thiserror::Error;

use crate::engine::store::StoreError;

/// Why there is no conversation with a runner.
#[derive(Debug, Error)]
pub(crate) enum SessionError {
    /// The directory of a task that was to begin cannot be used. Nothing has begun.
    #[error(transparent)]
    Directory(io::Error),
    /// The id, the directory or the journal of the task cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is a directory for the task and no record in it.
    #[error("task {0:?} never began")]
    NeverBegan(String),
    /// The task belongs to a Mesos executor that has died: no root can take it up.
    #[error("the executor of task {0:?} is gone")]
    ExecutorGone(String),
    /// The root or the runner said no to what was to begin.
    #[error("{0}")]
    Rejected(String),
    /// The root or the runner said no to looking after a task that has begun.
    #[error("{0}")]
    TakeUpRefused(String),
    /// The task that was followed has been removed, and another has its id.
    #[error("another task has begun under this id meanwhile")]
    Replaced,
    /// Every root or keeper dies before its first word.
    #[error("no root or keeper of task {0:?} lives long enough to answer")]
    NoAnswer(String),
    /// The system said no to what always works.
    #[error(transparent)]
    Io(#[from] io::Error),
}
