//! A scope of systemd's, delegated to us: where a person may make cgroups on a desktop.
//!
//! systemd owns the tree of cgroups; what a shell was started in is not ours to divide. A transient scope with
//! `Delegate=yes` is, and it lives as long as a process is in it. See org.freedesktop.systemd1(5).

use std::{
    path::Path,
    sync::mpsc::{RecvTimeoutError, channel},
    time::Duration,
};

use cgroups_rs::systemd::{DELEGATE, DESCRIPTION, PIDS};
use thiserror::Error;
use zbus::{
    MatchRule,
    blocking::{Connection, MessageIterator},
    message::Type,
    zvariant::{OwnedObjectPath, Value},
};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// How long a bus may think before a task goes on without it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no scope.
#[derive(Debug, Error)]
pub enum DelegateError {
    /// Nobody to ask.
    #[error("there is no systemd to ask for a scope")]
    Absent,
    /// It refused, or cannot be talked to.
    #[error("systemd gives no scope: {0}")]
    Bus(#[from] zbus::Error),
    /// Nobody answers.
    #[error("systemd gives no scope: it has not answered for {PATIENCE:?}")]
    Silent,
    /// The job ended in another way than well.
    #[error("systemd could not make the scope {scope}: {result}")]
    Job {
        /// The scope's name.
        scope: String,
        /// What systemd calls its end.
        result: String,
    },
}

/// Moves `pid`, a process of ours that has not begun yet, into a scope of its own: of the system's systemd
/// for root, else of the user's. `scope` ends in `.scope`. Returns when it is there.
///
/// # Errors
/// See [`DelegateError`].
pub fn delegate(scope: &str, pid: u32) -> Result<(), DelegateError> {
    let is_root = nix::unistd::geteuid().is_root();
    let runtime = match is_root {
        true => Some("/run".into()),
        false => std::env::var_os("XDG_RUNTIME_DIR"),
    };
    let is_there = runtime.is_some_and(|runtime| Path::new(&runtime).join("systemd").is_dir());
    if !is_there {
        return Err(DelegateError::Absent);
    }
    let scope = scope.to_owned();
    within(PATIENCE, move || ask(&scope, pid, is_root))
}

/// Lets a thread do what may never come back.
fn within(
    patience: Duration,
    what: impl FnOnce() -> Result<(), DelegateError> + Send + 'static,
) -> Result<(), DelegateError> {
    let (done, wait) = channel();
    let thread = std::thread::Builder::new().spawn(move || {
        // Nobody listens any more when it took too long.
        let _ = done.send(what());
    });
    thread.map_err(zbus::Error::from)?;
    match wait.recv_timeout(patience) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(DelegateError::Silent),
        Err(RecvTimeoutError::Disconnected) => Err(DelegateError::Absent),
    }
}

fn ask(scope: &str, pid: u32, is_root: bool) -> Result<(), DelegateError> {
    let bus = match is_root {
        true => Connection::system()?,
        false => Connection::session()?,
    };
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .interface(MANAGER)?
        .member("JobRemoved")?
        .build();
    // Asked for before the job exists, so that its end cannot be missed.
    let ends = MessageIterator::for_match_rule(rule, &bus, None)?;
    bus.call_method(Some(SYSTEMD), PATH, Some(MANAGER), "Subscribe", &())?;
    let properties: Vec<(&str, Value<'_>)> = vec![
        (DESCRIPTION, Value::from("dewar: a task with limits")),
        (PIDS, Value::from(vec![pid])),
        (DELEGATE, Value::from(true)),
        ("CollectMode", Value::from("inactive-or-failed")),
    ];
    let auxiliary: Vec<(&str, Vec<(&str, Value<'_>)>)> = Vec::new();
    let body = (scope, "fail", properties, auxiliary);
    let reply = bus.call_method(
        Some(SYSTEMD),
        PATH,
        Some(MANAGER),
        "StartTransientUnit",
        &body,
    )?;
    let job: OwnedObjectPath = reply.body().deserialize()?;
    for message in ends {
        let body = message?.body();
        let (_, ended, _, result): (u32, OwnedObjectPath, String, String) = body.deserialize()?;
        if ended == job {
            return match result.as_str() {
                "done" => Ok(()),
                _ => Err(DelegateError::Job {
                    scope: scope.to_owned(),
                    result,
                }),
            };
        }
    }
    Err(DelegateError::Absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_that_does_not_answer_holds_nobody_up() {
        let (_never, wait) = channel::<()>();
        let result = within(Duration::from_millis(1), move || {
            let _ = wait.recv();
            Ok(())
        });
        assert!(matches!(result, Err(DelegateError::Silent)), "{result:?}");
    }
}
