//! The facts that a plan is told, and the decisions that it makes.

use super::{
    member::Past,
    state::{Exit, TaskState},
};

/// Something that happened, from the journal or from the keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The start of a run is recorded.
    Started {
        /// The process' index in the task.
        process: usize,
        /// The run's number, from 0.
        run: u32,
    },
    /// A run became its program.
    Executed {
        /// The process' index in the task.
        process: usize,
        /// The run's number, from 0.
        run: u32,
    },
    /// A run was found healthy or not.
    Checked {
        /// The process' index in the task.
        process: usize,
        /// The run's number, from 0.
        run: u32,
        /// True when the run is healthy.
        healthy: bool,
    },
    /// A run has been going on for longer than it may.
    TimedOut {
        /// The process' index in the task.
        process: usize,
        /// The run's number, from 0.
        run: u32,
    },
    /// A restart of the process was asked for: its present run is to end, its failures are
    /// forgiven, and the next run starts at once.
    RestartRequested {
        /// The process' index in the task.
        process: usize,
    },
    /// The task as a whole must not go on, for this reason: it does not work, or takes more than it
    /// may.
    Unfit(String),
    /// A run ended.
    Ended {
        /// The process' index in the task.
        process: usize,
        /// The run's number, from 0.
        run: u32,
        /// How the run ended.
        exit: Exit,
    },
    /// The records of some runs were dropped by a compaction.
    Dropped {
        /// The process' index in the task.
        process: usize,
        /// The totals of those runs.
        past: Past,
    },
    /// The task entered a state.
    Entered {
        /// The state that is entered.
        state: TaskState,
        /// How the task will end (from CLEANING on).
        outcome: TaskState,
        /// Time until everything is killed, microseconds.
        budget_us: u64,
        /// How much of that is kept for final processes, microseconds.
        final_us: u64,
    },
    /// The end of the task was asked for.
    KillRequested {
        /// True for SIGKILL at once.
        now: bool,
        /// Instead of finalization_wait, microseconds.
        budget_us: Option<u64>,
    },
    /// The machine was restarted: CLOCK_BOOTTIME began anew, and earlier times mean nothing.
    Rebooted,
}

/// A record that the plan wants written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The task enters a state.
    Enter {
        /// The state that is entered.
        state: TaskState,
        /// How the task will end (from CLEANING on).
        outcome: TaskState,
        /// Time until everything is killed, microseconds.
        budget_us: u64,
        /// How much of that is kept for final processes, microseconds.
        final_us: u64,
        /// Why the state is entered, for people.
        reason: String,
        /// The final processes that never ran because no time was left, by their index; when the
        /// task is over.
        without_time: Vec<usize>,
    },
    /// A run has been going on for longer than it may. This counts once the note comes back as a
    /// fact: the run may have ended meanwhile.
    TimeOut {
        /// The process' index in the task.
        process: usize,
        /// The run's number, from 0.
        run: u32,
    },
}

/// An action that the plan wants carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start this run.
    Start {
        /// The process' index in the task.
        process: usize,
        /// The run's number, from 0.
        run: u32,
    },
    /// Ask the task over HTTP to end: gracefully, or (`abort`) at once.
    Post {
        /// True for the second request.
        abort: bool,
    },
    /// Ask every process to stop.
    StopAll,
    /// Ask this run to stop.
    StopRun {
        /// The process' index in the task.
        process: usize,
        /// The run's number, from 0.
        run: u32,
    },
    /// Name the processes that have not stopped yet.
    TellLingering,
    /// SIGKILL to the tree of this run.
    KillRun {
        /// The process' index in the task.
        process: usize,
        /// The run's number, from 0.
        run: u32,
    },
    /// SIGKILL to every process of the task.
    KillAll,
    /// Report when no process of the task is left.
    AwaitEmpty,
    /// Close the journal: the task is over.
    Close,
}

/// The result of [`decide`](super::task::Plan::decide).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// To be recorded before the commands are carried out.
    pub notes: Vec<Note>,
    /// To be carried out in this order.
    pub commands: Vec<Command>,
    /// Call again at this moment (microseconds of CLOCK_BOOTTIME), if nothing happens before.
    pub wake_at: Option<u64>,
}
