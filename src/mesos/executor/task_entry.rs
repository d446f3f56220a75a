//! What the core keeps of a task between its launch and its last acknowledgement, and of the
//! connection.

use super::updates::Update;
use crate::mesos::protocol::{
    is_terminal,
    messages::{KillPolicy, TaskInfo, TaskState},
};

/// A task that was accepted.
#[derive(Debug)]
pub(super) struct TaskEntry {
    pub(super) info: TaskInfo,
    /// The number of its group; 0: launched alone.
    pub(super) group: u32,
    /// In the order in which they were decided.
    pub(super) updates: Vec<Update>,
    /// This runner has asked for the task to be opened.
    pub(super) is_opened: bool,
    /// It is to be killed: with this grace period in microseconds, or its own.
    pub(super) kill: Option<Option<u64>>,
    /// It is killed because a member of its group failed.
    pub(super) ended_with_group: bool,
    /// Its journal was asked to be closed.
    pub(super) forgotten: bool,
}

impl TaskEntry {
    pub(super) fn has(&self, state: TaskState) -> bool {
        let mut updates = self.updates.iter();
        updates.any(|update| update.status.state() == state)
    }

    pub(super) fn is_terminal(&self) -> bool {
        let mut updates = self.updates.iter();
        updates.any(|update| is_terminal(update.status.state()))
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_terminal() && self.updates.iter().all(Update::is_acknowledged)
    }
}

/// The end of the executor: what still runs is killed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// Microseconds of CLOCK_BOOTTIME.
    pub(super) deadline: u64,
    /// There is an agent that acknowledges updates.
    pub(super) has_agent: bool,
}

/// The stream of the agent's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    /// There is none; a subscription may be sent from this time on.
    None { retry_at: u64 },
    /// A subscription was sent.
    Asked,
    /// The agent has accepted the subscription.
    Open,
}

/// A kill policy's grace period, microseconds.
pub(super) fn budget_of(policy: Option<&KillPolicy>) -> Option<u64> {
    let nanos = policy?.grace_period.as_ref()?.nanoseconds;
    Some(u64::try_from(nanos).unwrap_or(0) / 1000)
}
