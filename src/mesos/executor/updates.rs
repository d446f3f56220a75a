//! The updates of one task, in their order, from their record to their acknowledgement.

use crate::mesos::protocol::messages::TaskStatus;

/// How long an acknowledgement is waited for before the update is sent again, microseconds.
pub(super) const PATIENCE_US: u64 = 10_000_000;
/// The first pause after a refusal (an agent that has not finished recovery), microseconds.
const PAUSE_US: u64 = 100_000;
const LONGEST_PAUSE_US: u64 = 2_000_000;

/// Where an update is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Its record is not on disk yet.
    Unrecorded,
    /// To be sent from this moment on.
    Due(u64),
    /// Being sent.
    InFlight,
    /// Sent at this moment.
    Sent(u64),
    Acknowledged,
}

/// One update.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub status: TaskStatus,
    way: Way,
    refusals: u32,
}

impl Update {
    /// One that was just decided.
    pub fn new(status: TaskStatus) -> Update {
        Update {
            status,
            way: Way::Unrecorded,
            refusals: 0,
        }
    }

    pub fn uuid(&self) -> &[u8] {
        self.status.uuid()
    }

    pub fn is_acknowledged(&self) -> bool {
        self.way == Way::Acknowledged
    }

    pub fn is_recorded(&self) -> bool {
        self.way != Way::Unrecorded
    }

    pub fn recorded(&mut self) {
        if self.way == Way::Unrecorded {
            self.way = Way::Due(0);
        }
    }

    pub fn acknowledged(&mut self) {
        self.way = Way::Acknowledged;
    }

    /// It is part of a new subscription, or was posted.
    pub fn sent(&mut self, now: u64) {
        if matches!(self.way, Way::InFlight | Way::Due(_)) {
            self.way = Way::Sent(now);
        }
    }

    pub fn refused(&mut self, now: u64) {
        if self.way == Way::InFlight {
            let pause = PAUSE_US << self.refusals.min(10);
            self.way = Way::Due(now + pause.min(LONGEST_PAUSE_US));
            self.refusals += 1;
        }
    }

    /// The connection is gone: what was sent may not have arrived.
    pub fn disconnected(&mut self) {
        if matches!(self.way, Way::InFlight | Way::Sent(_)) {
            self.way = Way::Due(0);
        }
    }

    /// When it is to be sent (again); `None` while that depends on something else.
    pub fn due(&self) -> Option<u64> {
        match self.way {
            Way::Due(at) => Some(at),
            Way::Sent(at) => Some(at + PATIENCE_US),
            Way::Unrecorded | Way::InFlight | Way::Acknowledged => None,
        }
    }

    /// True when it has to be sent now; it is in flight from then on.
    pub fn take(&mut self, now: u64) -> bool {
        let is_due = self.due().is_some_and(|at| at <= now);
        if is_due {
            self.way = Way::InFlight;
        }
        is_due
    }
}
