//! One task in the executor's memory: where it stands between its launch and its last acknowledgement.

use super::updates::Update;
use crate::mesos::protocol::{
    is_terminal,
    messages::{KillPolicy, TaskInfo, TaskState},
};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) info: TaskInfo,
    /// 0: launched alone.
    pub(super) group: u32,
    pub(super) updates: Vec<Update>,
    /// [`Action::Begin`](super::interface::Action::Begin) was said in this life.
    pub(super) begun: bool,
    /// Somebody wants its end: with this budget, or its own.
    pub(super) kill: Option<Option<u64>>,
    pub(super) ended_with_group: bool,
    pub(super) forgotten: bool,
}

impl Entry {
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

/// Why and until when everything is being ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) deadline: u64,
    /// Somebody is there who acknowledges.
    pub(super) has_agent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    /// To be made from this moment on.
    None {
        retry_at: u64,
    },
    Asked,
    Open,
}

/// A kill policy's grace period, microseconds.
pub(super) fn budget_of(policy: Option<&KillPolicy>) -> Option<u64> {
    let nanos = policy?.grace_period.as_ref()?.nanoseconds;
    Some(u64::try_from(nanos).unwrap_or(0) / 1000)
}
