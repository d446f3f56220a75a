//! Whoever decides which tasks there are, when that is not a person: the Mesos executor.
//!
//! Its memory is the group's own journal (task 0), its view of the tasks their histories: both say
//! only what is on disk. What it wants is recorded before it has an effect.

use std::{
    collections::BTreeMap,
    task::{Context, Poll},
};

use super::running_task::Running;
use crate::{
    journal::{Header, Kind, Record},
    sys::clock::Moment,
};

/// The tasks of a group, by number; 0 is never among them.
pub type Members = BTreeMap<u32, Running>;

/// What an overseer wants done, in this order.
#[derive(Debug)]
pub enum Want {
    /// Write this into the group's journal.
    Note(Box<Kind>),
    /// Begin a task; its directory exists.
    Open {
        /// Its number, from 1; never used before.
        task: u32,
        /// Where its journal goes.
        directory: String,
        /// What it is.
        header: Box<Header>,
    },
    /// End a task.
    Kill {
        /// Its number.
        task: u32,
        /// SIGKILL at once.
        now: bool,
        /// Instead of finalization_wait, microseconds.
        budget_us: Option<u64>,
    },
    /// The task is over and nobody needs its history any more.
    Forget(u32),
    /// Everything is done: end the group.
    Leave,
}

/// Decides which tasks there are.
pub trait Overseer {
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
