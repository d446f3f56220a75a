//! Why a keeper cannot begin or go on, and why a run cannot be launched.
//!
//! A broken link is none of these: it costs a runner (`runner_link`).

use std::{fmt, io};

use nix::errno::Errno;
use thiserror::Error;

use super::namespaces::PrivateError;
use crate::{
    engine::ipc::StartError, journal::JournalError, resources::GroupError,
    sandbox::private::BuildError, sys::errno::errno_of,
};

/// Why a root or a keeper cannot begin or go on.
#[derive(Debug, Error)]
pub enum KeeperError {
    /// The system refuses what every keeper needs.
    #[error("{what}: {source}")]
    System {
        /// What it was asked for.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The process cannot become a root.
    #[error("cannot prepare: {}", .0.desc())]
    Prepare(Errno),
    /// Something in the task's directory is not to be had.
    #[error("cannot {what} in {path}: {source}")]
    Directory {
        /// What was tried.
        what: &'static str,
        /// The task's directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The root refuses to begin.
    #[error("{}", .0.message)]
    Refused(StartError),
    /// The container's first process is dead.
    #[error("the root died")]
    RootDied,
    /// The journal's file cannot be opened or gone on with.
    #[error(transparent)]
    JournalFile(io::Error),
    /// The journal cannot be read, or is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There is nothing in the journal.
    #[error("{path} is empty: the task never began")]
    Empty {
        /// The journal's file.
        path: String,
    },
    /// The journal of one of an executor's tasks cannot be gone on with.
    #[error("{path}: {why}")]
    Member {
        /// The journal's file.
        path: String,
        /// What is wrong with it.
        why: MemberError,
    },
    /// An event that no descriptor was watched for.
    #[error("epoll tells of an event that was not asked for")]
    UnknownEvent,
}

impl KeeperError {
    /// True when a journal is one of a later version: that is no reason to distrust it.
    pub(super) fn is_beyond(&self) -> bool {
        let later = |error: &JournalError| matches!(error, JournalError::Later { .. });
        match self {
            KeeperError::Journal(error) => later(error),
            KeeperError::Member {
                why: MemberError::Journal(error),
                ..
            } => later(error),
            _ => false,
        }
    }

    /// Says what the system was asked for when it refused.
    pub(super) fn system<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> KeeperError {
        move |error| KeeperError::System {
            what,
            source: error.into(),
        }
    }
}

/// What is wrong with the journal of one of several tasks.
#[derive(Debug, Error)]
pub enum MemberError {
    /// Its file cannot be opened or gone on with.
    #[error(transparent)]
    File(#[from] io::Error),
    /// It cannot be read, or is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Why a run, or a health check's script, cannot be launched.
#[derive(Debug, Error)]
pub(super) enum LaunchError {
    /// It cannot have the limits that it must have.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// It cannot be private.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// There is no free slot.
    #[error("too many launches at once")]
    NoSlot,
    /// The user's own limit leaves no room for it.
    #[error("the limit of processes (pids) leaves no room for it")]
    PidsLimit,
    /// Its output cannot be opened, or it cannot be forked.
    #[error(transparent)]
    Fork(#[from] io::Error),
}

impl LaunchError {
    /// True when dewar or the machine has run out of something for the moment. That is no failure
    /// of the process: another attempt may do better.
    pub fn is_shortage(&self) -> bool {
        let errno = match self {
            LaunchError::NoSlot => return true,
            LaunchError::Group(GroupError::Io(error))
            | LaunchError::Private(PrivateError::Watch(error))
            | LaunchError::Fork(error) => errno_of(error),
            LaunchError::Private(PrivateError::Rules(error)) => errno_of(error),
            LaunchError::Private(PrivateError::Build(error)) => match error {
                // It took too long, which is told with EAGAIN.
                BuildError::Silence(_) => None,
                error => errno_of(error),
            },
            _ => None,
        };
        let short = [libc::EMFILE, libc::ENFILE, libc::EAGAIN, libc::ENOMEM];
        errno.is_some_and(|errno| short.contains(&errno))
    }
}

/// The reason of a failed run, for people: without the system's number of its error.
pub(super) struct Reason<'a>(pub &'a LaunchError);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        match self.0 {
            LaunchError::Fork(_) => {
                f.write_str(text.split(" (os error").next().unwrap_or_default())
            }
            _ => f.write_str(&text),
        }
    }
}
