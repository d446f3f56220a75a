//! What is looked at again when its time has come. A look that comes too early does no harm.

use std::collections::BTreeSet;

use super::state::Key;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// An instance of a job may be launched again.
    Instance(Key, u32),
    /// A task is to be killed again, asked for again or given up.
    Task(u64),
    /// An update may take its next step.
    Job(Key),
    /// Offers are to be asked for.
    Revive,
    /// The master is to be asked for the states of all tasks.
    Reconcile,
}

/// Timers by their times, in milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(u64, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: u64, timer: Timer) {
        self.0.insert((at, timer));
    }

    /// The time of the first timer.
    pub(super) fn next(&self) -> Option<u64> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes the first timer whose time has come.
    pub(super) fn take_due(&mut self, now: u64) -> Option<Timer> {
        let is_due = self.next().is_some_and(|at| at <= now);
        let first = if is_due { self.0.pop_first() } else { None };
        first.map(|(_, timer)| timer)
    }
}
