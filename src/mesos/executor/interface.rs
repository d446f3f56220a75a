//! What goes into the core and what comes out of it.

use crate::{
    journal::Kind,
    mesos::protocol::messages::{
        TaskState,
        executor::{Call, Event},
        task_status::Reason,
    },
};

/// Who the executor is and what the agent expects of it. Times are in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub framework_id: String,
    pub executor_id: String,
    /// How long to wait for an agent that is away; `None` without checkpointing, when no agent
    /// comes back.
    pub recovery_us: Option<u64>,
    /// The longest pause between two subscriptions.
    pub backoff_max_us: u64,
    /// How long the executor lives after SHUTDOWN.
    pub grace_us: u64,
}

/// What came from the agent's side.
#[derive(Debug)]
pub(super) enum AgentEvent {
    /// The agent accepted the subscription.
    Connected,
    /// An event of the stream.
    Event(Box<Event>),
    /// The subscription failed or ended.
    Disconnected(String),
    /// The agent took this update (which is not yet an acknowledgement), or did not.
    Posted {
        uuid: Vec<u8>,
        refused: Option<String>,
    },
}

/// What the driver is to do.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Write a record into the executor's journal.
    Note(Box<Kind>),
    /// Make this task's sandbox and start its plan. The core is told when that fails.
    Open(u32),
    /// End a task, with this grace period (microseconds) or its own.
    Kill { task: u32, budget_us: Option<u64> },
    /// Close the journal of a task whose end has been acknowledged.
    Forget(u32),
    /// Open a new stream of the agent's events.
    Subscribe(Box<Call>),
    /// Send an update.
    Post { uuid: Vec<u8>, call: Box<Call> },
    /// End the executor.
    Leave,
}

/// How far a task is that was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TaskProgress {
    /// A process of it runs or ran, and its health check, if it has one, has succeeded.
    pub has_started: bool,
    /// The last result of its check; `None` before the first one, `Some(None)` without a result.
    pub checked: Option<Option<i32>>,
    /// Its end, once that is on disk.
    pub end: Option<TaskState>,
}

/// What an update says besides the state.
#[derive(Clone, Debug, Default)]
pub(super) struct UpdateText {
    pub message: Option<String>,
    pub reason: Option<Reason>,
    /// What the task's health check found, if it has one.
    pub healthy: Option<bool>,
    pub data: Option<Vec<u8>>,
}

/// What the core asks about the tasks while it decides.
pub(super) trait TaskView {
    /// How far a task is; `None` before it is opened.
    fn progress(&self, task: u32) -> Option<TaskProgress>;
    /// What to say of a task that enters this state.
    fn update_text(&self, task: u32, state: TaskState) -> UpdateText;
    /// A fresh random uuid.
    fn uuid(&mut self) -> [u8; 16];
}
