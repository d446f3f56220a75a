//! The seam between the runner and what decides which tasks of a group there are.
//!
//! A task of `dewar run` has no steering: it is the only one of its runner. Under Mesos the
//! executor is the steering. Its memory is the group's own journal (task 0), its view of the tasks
//! is their histories: both say only what is on disk. What it wants is recorded before it has an
//! effect.

use std::{
    collections::BTreeMap,
    task::{Context, Poll},
};

use super::running_task::RunningTask;
use crate::{
    journal::{Header, Kind, Record},
    sys::clock::Moment,
};

/// The tasks of a group, by number. Locally there is one, and its number is 0; under a steering
/// numbers begin with 1.
pub type Members = BTreeMap<u32, RunningTask>;

/// One thing that a steering wants done. A list of them is carried out in its order.
#[derive(Debug)]
pub enum Want {
    /// Write this record into the group's journal.
    Note(Box<Kind>),
    /// Begin a task; its directory exists.
    Open {
        /// The number of the task, from 1; never used before.
        task: u32,
        /// The directory that its journal goes into.
        directory: String,
        /// The header of its journal, with the task in it.
        header: Box<Header>,
    },
    /// End a task.
    Kill {
        /// The number of the task.
        task: u32,
        /// True for SIGKILL at once.
        now: bool,
        /// Instead of finalization_wait, microseconds.
        budget_us: Option<u64>,
    },
    /// Close the journal of this task: it is over, and its history is not needed any more.
    Forget(u32),
    /// Everything is done: end the group.
    Leave,
}

/// Decides which tasks of a group there are.
pub trait Steering {
    /// A record of the group's journal is on disk. Called in order, also for those of the past.
    fn recorded(&mut self, record: &Record);

    /// Those of the group's records (without the header) that are still needed.
    fn needed(&self, records: &[Record]) -> Vec<Record>;

    /// Ready when something came from outside and was taken in.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// What to do now, and when to ask again (microseconds of CLOCK_BOOTTIME) if nothing happens
    /// before. Asked after every change.
    fn decide(&mut self, now: Moment, members: &Members) -> (Vec<Want>, Option<u64>);
}
