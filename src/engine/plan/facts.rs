//! What a plan is told and what it wants: facts in, decisions out.

use super::{
    member::Past,
    state::{Exit, TaskState},
};

/// Something that happened, from the journal or from the keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A run's start is recorded.
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
        /// What was found.
        healthy: bool,
    },
    /// A run has been going on for longer than it may.
    TimedOut {
        /// The process' index in the task.
        process: usize,
        /// The run's number, from 0.
        run: u32,
    },
    /// Somebody wants the process to run anew: its present run is to end, its failures are
    /// forgiven, and the next run starts at once.
    RestartRequested {
        /// The process' index in the task.
        process: usize,
    },
    /// The task as a whole must not go on, and why: it does not work, or takes more than it may.
    Unfit(String),
    /// A run ended.
    Ended {
        /// The process' index in the task.
        process: usize,
        /// The run's number, from 0.
        run: u32,
        /// How.
        exit: Exit,
    },
    /// Runs that a compaction dropped.
    Dropped {
        /// The process' index in the task.
        process: usize,
        /// What they came to.
        past: Past,
    },
    /// The task entered a state.
    Entered {
        /// Which.
        state: TaskState,
        /// How the task will end (from CLEANING on).
        outcome: TaskState,
        /// Time until everything is killed, microseconds.
        budget_us: u64,
    },
    /// Somebody wants the task to end.
    KillRequested {
        /// SIGKILL at once.
        now: bool,
        /// Instead of finalization_wait, microseconds.
        budget_us: Option<u64>,
    },
    /// The machine was restarted: earlier times mean nothing any more.
    Rebooted,
}

/// Something to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The task enters a state.
    Enter {
        /// Which.
        state: TaskState,
        /// How the task will end (from CLEANING on).
        outcome: TaskState,
        /// Time until everything is killed, microseconds.
        budget_us: u64,
        /// For people.
        reason: String,
    },
    /// A run has been going on for longer than it may. It counts when the note comes back as a
    /// fact: the run may have ended meanwhile.
    TimeOut {
        /// The process' index in the task.
        process: usize,
        /// The run's number, from 0.
        run: u32,
    },
}

/// Something to do.
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
        /// The second request.
        abort: bool,
    },
    /// Ask everything to stop.
    StopAll,
    /// Ask this run to stop.
    StopRun {
        /// The process' index in the task.
        process: usize,
        /// The run's number, from 0.
        run: u32,
    },
    /// Say who has not stopped yet.
    TellLingering,
    /// SIGKILL to the tree of this run.
    KillRun {
        /// The process' index in the task.
        process: usize,
        /// The run's number, from 0.
        run: u32,
    },
    /// SIGKILL to everything.
    KillAll,
    /// Say when nothing is left.
    AwaitEmpty,
    /// The task is over.
    Close,
}

/// What [`decide`](super::task::Plan::decide) wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// To be recorded before the commands are carried out.
    pub notes: Vec<Note>,
    /// To be carried out in this order.
    pub commands: Vec<Command>,
    /// Call again at this moment (microseconds of CLOCK_BOOTTIME), if nothing happens before.
    pub wake_at: Option<u64>,
}
