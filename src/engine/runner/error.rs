//! The errors of a runner: those that end it, and refusals of clients' requests.

use std::io;

use thiserror::Error;

use crate::{
    engine::ipc::LinkError,
    journal::{Beyond, JournalError},
};

/// Highest number of a signal that clients may send; those above it are real-time signals.
pub(super) const LAST_SIGNAL: u32 = 31;

/// Why a runner ends before its tasks do.
#[derive(Debug, Error)]
pub(super) enum RunnerError {
    /// The journal says something that cannot be true: the keeper must not start another runner.
    #[error("the journal cannot be trusted: {0}")]
    Distrust(#[from] Distrust),
    /// The journal needs a later version. Nothing is wrong with it.
    #[error("the runner cannot go on: {0}")]
    Beyond(#[from] Beyond),
    /// The journal has a later version's format. Nothing is wrong with it.
    #[error("the runner cannot go on: {0}")]
    Later(JournalError),
    /// A task that is to begin cannot be read: the agent sent it, no journal has it.
    #[error("the runner cannot go on: a new task cannot be read: {0}")]
    NewTask(serde_json::Error),
    /// The keeper sent something that is no report. Another runner may have more luck.
    #[error("the runner cannot go on: its link to the keeper is broken: {0}")]
    Link(#[from] LinkError),
    /// The system refused something.
    #[error("the runner cannot go on: {0}")]
    Io(#[from] io::Error),
}

/// Why a journal cannot be trusted.
#[derive(Debug, Error)]
pub(super) enum Distrust {
    /// The file cannot be read as a journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The file has no records although the keeper wrote some.
    #[error("the journal is empty")]
    Empty,
    /// The task in the header is not one that this version can read.
    #[error(transparent)]
    Task(#[from] serde_json::Error),
}

/// Why a client's request is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    /// The request names a task that is not here.
    #[error("no task {0:?} runs here")]
    NoTask(String),
    /// The request names no task, and there are several.
    #[error("several tasks run here: name one")]
    SeveralTasks,
    /// The request names a process that the task does not have.
    #[error("no process {0:?} in this task")]
    NoProcess(String),
    /// The request wants a signal sent to a process that has no live run.
    #[error("{0} does not run")]
    NotRunning(String),
    /// The request wants a signal sent that does not exist or is a real-time signal.
    #[error("{0} is no signal that can be sent: 1 to {LAST_SIGNAL} are")]
    NoSignal(u32),
    /// The process cannot be restarted now.
    #[error("{process} cannot be restarted: {why}")]
    NoRestart {
        /// The name of the process.
        process: String,
        /// Why it cannot be restarted.
        why: String,
    },
    /// The line is no request.
    #[error("{0}")]
    Malformed(String),
}

/// Why a private task cannot be built on this machine.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct IsolationError(pub(super) String);
