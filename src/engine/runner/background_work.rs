//! Work that would hold up the engine, done beside it: attempts of health checks over the network,
//! requests that ask a task to end, walks through a sandbox.
//!
//! Each piece of work sends one [`Outcome`] when it is over. A request that was answered sends
//! none.

use std::{path::PathBuf, time::Duration};

use tokio::sync::mpsc;

use super::{
    health_check::{AttemptResult, Subject},
    http_tcp_probe,
};
use crate::{
    resources::{DiskUsage, disk_usage},
    task::Probe,
};

/// The outcome of a piece of work, with the number of its task.
pub(super) enum Outcome {
    /// An attempt of a health check is over.
    Attempt(u32, Subject, AttemptResult),
    /// A walk through the sandbox is over.
    Walk(u32, DiskUsage),
    /// A request to end was not answered, or refused.
    PostFailed {
        /// The number of the task.
        task: u32,
        /// True for the second request, which asks for an end at once.
        abort: bool,
    },
}

/// An attempt of a health check that has to be made.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub subject: Subject,
    pub probe: Probe,
    pub timeout: Duration,
    /// The sandbox has the file that makes every attempt a success.
    pub is_snoozed: bool,
}

/// A request over HTTP that asks a task to end.
#[derive(Clone, Debug)]
pub(super) struct Post {
    /// True for the second request, which asks for an end at once.
    pub abort: bool,
    /// How long an answer may take.
    pub patience: Duration,
    pub port: u16,
    pub path: String,
}

/// The end of the channel that outcomes are sent into. The engine that reads them may be gone when
/// a piece of work is over; then there is no task left that the outcome could change.
pub(super) type Outcomes = mpsc::UnboundedSender<Outcome>;

fn send(outcomes: &Outcomes, outcome: Outcome) {
    if outcomes.send(outcome).is_err() {
        tracing::debug!("an outcome that came after the runner's end");
    }
}

/// Makes an attempt of a health check of task `number`.
pub(super) async fn attempt(number: u32, attempt: Attempt, outcomes: Outcomes) {
    let result = match &attempt.probe {
        _ if attempt.is_snoozed => AttemptResult::success(),
        Probe::Http(http) => http_tcp_probe::http(http, attempt.timeout).await,
        Probe::Tcp(tcp) => http_tcp_probe::tcp(tcp.port, attempt.timeout).await,
        // The keeper runs scripts; a script comes here only when it is snoozed.
        Probe::Shell(_) => AttemptResult::success(),
    };
    send(&outcomes, Outcome::Attempt(number, attempt.subject, result));
}

/// Asks task `number` to end.
pub(super) async fn post(number: u32, post: Post, outcomes: Outcomes) {
    if let Err(error) = http_tcp_probe::post(post.port, &post.path, post.patience).await {
        tracing::info!("asking the task to end: {error}");
        let abort = post.abort;
        send(
            &outcomes,
            Outcome::PostFailed {
                task: number,
                abort,
            },
        );
    }
}

/// Measures the sandbox of task `number` on a thread of its own, so that a slow disk delays nothing
/// else. False when there is no thread to be had.
pub(super) fn walk(number: u32, sandbox: PathBuf, outcomes: Outcomes) -> bool {
    let walk = move || send(&outcomes, Outcome::Walk(number, disk_usage(&sandbox)));
    let spawned = std::thread::Builder::new()
        .name("disk".to_owned())
        .spawn(walk);
    if let Err(error) = &spawned {
        tracing::error!("cannot look at the sandbox's size: {error}");
    }
    spawned.is_ok()
}
