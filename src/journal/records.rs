//! The record types, generated from `proto/journal.proto`, and functions that build them.

use crate::sys::clock::Moment;

pub use crate::protocols::dewar::journal::{
    Accepted, Acknowledged, Again, Checked, Closed, Cover, End, Exceeded, Exec, Executor, Frame,
    Groups, Header, Health, Init, KillRequest, LaunchFailure, Lost, Need, Notice, Opened, Record,
    Restart, Signal, SignalSent, Snapshot, Stage, Start, Subscribed, TaskState, Tenure, TimedOut,
    Totals, Update, Usage, end::How, record::Kind,
};

impl Record {
    /// A record of `kind` that happened at `at`.
    pub fn new(at: Moment, kind: Kind) -> Record {
        Record {
            boot_us: at.boot_us,
            wall_us: at.wall_us,
            kind: Some(kind),
            passable: false,
        }
    }

    /// When it happened.
    pub fn at(&self) -> Moment {
        Moment {
            boot_us: self.boot_us,
            wall_us: self.wall_us,
        }
    }
}
