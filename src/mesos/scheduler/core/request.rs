//! What an operator may ask, and what is answered.

use std::collections::BTreeSet;

use super::amounts::Amounts;
use crate::task::Job;

/// What an operator asks for. Jobs are named by their keys, instances by their numbers; no numbers
/// means all.
#[derive(Clone, Debug)]
pub enum Request {
    /// A new job.
    Create(Box<Job>),
    /// Changes a job to a new configuration.
    Update {
        /// The new configuration; its key names the job.
        job: Box<Job>,
        /// The instances to update; none means all.
        only: BTreeSet<u32>,
        /// Update even if no known agent is large enough.
        force: bool,
    },
    /// The same again, a few at a time.
    Restart(String, BTreeSet<u32>),
    /// Instances, or the job with all of them, are to be no more.
    Kill(String, BTreeSet<u32>),
    /// So many instances.
    Scale(String, u32),
    /// The job's update is to wait.
    Pause(String),
    /// It is to go on.
    Resume(String),
    /// It is to end where it is.
    Abort(String),
    /// Moves all tasks off a host, and launches none there.
    Drain {
        /// The host's name.
        host: String,
    },
    /// Launches tasks on a drained host again.
    Undrain {
        /// The host's name.
        host: String,
    },
    /// What the jobs of this role may have together.
    Quota(String, Option<Amounts>),
}

impl std::fmt::Display for Request {
    /// As a log has it: `scale www/prod/web to 5`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let some = |numbers: &BTreeSet<u32>| match numbers.is_empty() {
            true => String::new(),
            false => format!(" ({} of its instances)", numbers.len()),
        };
        match self {
            Request::Create(job) => write!(f, "create {}", job.key()),
            Request::Update { job, only, .. } => {
                write!(f, "update {}{}", job.key(), some(only))
            }
            Request::Restart(key, only) => write!(f, "restart {key}{}", some(only)),
            Request::Kill(key, only) => write!(f, "kill {key}{}", some(only)),
            Request::Scale(key, count) => write!(f, "scale {key} to {count}"),
            Request::Pause(key) => write!(f, "pause the update of {key}"),
            Request::Resume(key) => write!(f, "resume the update of {key}"),
            Request::Abort(key) => write!(f, "abort the update of {key}"),
            Request::Drain { host } => write!(f, "drain {host}"),
            Request::Undrain { host } => write!(f, "use {host} again"),
            Request::Quota(role, Some(_)) => write!(f, "limit {role}"),
            Request::Quota(role, None) => write!(f, "take the limit off {role}"),
        }
    }
}

/// What an operator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was begun: the job's key and what is going to happen, in words.
    Begun(String, String),
    /// It is done, in words.
    Done(String),
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal it is.
    pub kind: RefusalKind,
    /// In words.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Refusal {
    pub(super) fn new(kind: RefusalKind, message: impl Into<String>) -> Refusal {
        Refusal {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Refusal {
        Refusal {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// There is no such thing.
    Unknown,
    /// It cannot be now.
    Conflict,
    /// It makes no sense.
    Invalid,
    /// It is more than the role may have.
    Quota,
}
