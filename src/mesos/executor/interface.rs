//! What goes into the core and what comes out of it.

use crate::{
    journal::Kind,
    mesos::protocol::messages::{
        TaskState,
        executor::{Call, Event},
        task_status::Reason,
    },
};

/// Who we are and what the agent expects, microseconds.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub framework_id: String,
    pub executor_id: String,
    /// `None`: without checkpointing nobody comes back.
    pub recovery_us: Option<u64>,
    pub backoff_max_us: u64,
    pub grace_us: u64,
}

/// What came from the agent's side.
#[derive(Debug)]
pub(super) enum News {
    /// The agent accepted the subscription.
    Connected,
    Event(Box<Event>),
    /// The subscription failed or ended.
    Disconnected(String),
    /// The agent took this update (which is not yet an acknowledgement), or did not.
    Posted {
        uuid: Vec<u8>,
        refused: Option<String>,
    },
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Note(Box<Kind>),
    /// Make this task's sandbox and plan; [`unfit`](super::core::Core::unfit) says when that fails.
    Begin(u32),
    Kill {
        task: u32,
        budget_us: Option<u64>,
    },
    Forget(u32),
    Subscribe(Box<Call>),
    Post {
        uuid: Vec<u8>,
        call: Box<Call>,
    },
    Leave,
}

/// How a task that was begun stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Some process of it runs or ran, and its health check, if any, is content.
    pub has_started: bool,
    /// What its check last said, once it has; `Some(None)`: no result.
    pub checked: Option<Option<i32>>,
    /// Its end, once that is on disk.
    pub end: Option<TaskState>,
}

/// What an update says beside the state.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    pub message: Option<String>,
    pub reason: Option<Reason>,
    /// What the task's health check found, if it has one.
    pub healthy: Option<bool>,
    pub data: Option<Vec<u8>>,
}

/// What the core asks of the world while it decides.
pub(super) trait World {
    /// `None` for a task that has not been begun.
    fn standing(&self, task: u32) -> Option<Standing>;
    /// What to say of a task that enters this state.
    fn words(&self, task: u32, state: TaskState) -> Words;
    /// A fresh random uuid.
    fn uuid(&mut self) -> [u8; 16];
}
