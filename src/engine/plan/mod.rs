//! The semantics of a task: which process starts when, what an end means, how the task ends.
//!
//! Pure: facts come in through [`Plan::apply`], decisions come out of [`Plan::decide`]; there is no
//! clock, no file and no process here. `now` is CLOCK_BOOTTIME in microseconds.
//! The same facts give the same plan, whichever process replays them.

mod backoff;
mod facts;
mod final_time;
mod interventions;
mod member;
mod situation;
mod skipped;
mod state;
mod stopping;
mod task;
#[cfg(test)]
mod tests;
mod verdict;

pub use facts::{Command, Decision, Fact, Note};
pub use member::{Ending, Past, Totals};
pub use situation::{Dependency, NoRestart, Situation};
pub use state::{Exit, RunState, TaskState};
pub use task::Plan;
