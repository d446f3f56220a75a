//! The key of a run: task, process and number.

use crate::protocols::dewar::link as wire;

/// Names a run among all that the keeper looks after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub task: u32,
    /// The process' index in its task.
    pub process: u32,
    /// The run's number, from 0.
    pub run: u32,
}

impl Key {
    /// The run that a command of `task` launches.
    pub fn of(task: u32, launch: &wire::Launch) -> Key {
        Key {
            task,
            process: launch.process,
            run: launch.run,
        }
    }

    /// True when this is an earlier run of the process that `later` is of.
    pub fn precedes(self, later: Key) -> bool {
        (self.task, self.process) == (later.task, later.process) && self.run < later.run
    }
}
