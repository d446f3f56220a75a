//! The updates of one task, in their order, from their record to their acknowledgement.

use crate::mesos::protocol::messages::TaskStatus;

/// How long an acknowledgement is waited for before the update is sent again, microseconds.
pub(super) const PATIENCE_US: u64 = 10_000_000;
/// The first pause after a refusal (an agent that has not finished recovery), microseconds.
const PAUSE_US: u64 = 100_000;
const LONGEST_PAUSE_US: u64 = 2_000_000;

/// How far an update is on its way to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    /// Its record is not on disk yet.
    Unrecorded,
    /// To be sent from this time on (microseconds of CLOCK_BOOTTIME).
    Due(u64),
    /// The request is under way.
    InFlight,
    /// Sent at this time.
    Sent(u64),
    Acknowledged,
}

/// An update with its way to the agent.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub status: TaskStatus,
    delivery: Delivery,
    refusals: u32,
}

impl Update {
    /// An update that was just decided.
    pub fn new(status: TaskStatus) -> Update {
        Update {
            status,
            delivery: Delivery::Unrecorded,
            refusals: 0,
        }
    }

    pub fn uuid(&self) -> &[u8] {
        self.status.uuid()
    }

    pub fn is_acknowledged(&self) -> bool {
        self.delivery == Delivery::Acknowledged
    }

    pub fn is_recorded(&self) -> bool {
        self.delivery != Delivery::Unrecorded
    }

    pub fn recorded(&mut self) {
        if self.delivery == Delivery::Unrecorded {
            self.delivery = Delivery::Due(0);
        }
    }

    pub fn acknowledged(&mut self) {
        self.delivery = Delivery::Acknowledged;
    }

    /// It is part of a new subscription, or was posted.
    pub fn sent(&mut self, now: u64) {
        if matches!(self.delivery, Delivery::InFlight | Delivery::Due(_)) {
            self.delivery = Delivery::Sent(now);
        }
    }

    pub fn refused(&mut self, now: u64) {
        if self.delivery == Delivery::InFlight {
            let pause = PAUSE_US << self.refusals.min(10);
            self.delivery = Delivery::Due(now + pause.min(LONGEST_PAUSE_US));
            self.refusals += 1;
        }
    }

    /// The connection is gone: what was sent may not have arrived.
    pub fn disconnected(&mut self) {
        if matches!(self.delivery, Delivery::InFlight | Delivery::Sent(_)) {
            self.delivery = Delivery::Due(0);
        }
    }

    /// When it is to be sent (again); `None` while that depends on something else.
    pub fn due(&self) -> Option<u64> {
        match self.delivery {
            Delivery::Due(at) => Some(at),
            Delivery::Sent(at) => Some(at + PATIENCE_US),
            Delivery::Unrecorded | Delivery::InFlight | Delivery::Acknowledged => None,
        }
    }

    /// True when it has to be sent now; it is in flight from then on.
    pub fn take(&mut self, now: u64) -> bool {
        let is_due = self.due().is_some_and(|at| at <= now);
        if is_due {
            self.delivery = Delivery::InFlight;
        }
        is_due
    }
}
