//! What an operator may ask for, and the answers.

use std::collections::BTreeSet;

use super::amounts::Amounts;
use crate::task::Job;

/// What an operator asks for. Jobs are named by their keys, instances by their numbers; no numbers
/// means all instances.
#[derive(Clone, Debug)]
pub enum Request {
    /// Creates a job.
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
    /// Replaces the tasks of instances by new ones of the same version, a few at a time.
    Restart(String, BTreeSet<u32>),
    /// Removes instances; without numbers, the job.
    Kill(String, BTreeSet<u32>),
    /// Sets the number of instances.
    Scale(String, u32),
    /// Pauses the job's update.
    Pause(String),
    /// Resumes the job's update.
    Resume(String),
    /// Ends the job's update where it is.
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
    /// Sets or removes the limit of what the jobs of a role use together.
    Quota(String, Option<Amounts>),
}

impl std::fmt::Display for Request {
    /// Writes the request as a log has it: `scale www/prod/web to 5`.
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

/// The answer to a request that is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The request has begun: the job's key, and a text about what is going to happen.
    Begun(String, String),
    /// The request is done: a text about it.
    Done(String),
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal it is.
    pub kind: RefusalKind,
    /// The reason, for people.
    pub message: String,
    /// What the operator can do.
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

/// The kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The job or the instance does not exist.
    Unknown,
    /// It is not possible in the present state.
    Conflict,
    /// The request makes no sense.
    Invalid,
    /// It exceeds the role's quota.
    Quota,
}
