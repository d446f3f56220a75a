//! The Mesos executor: the agent's events become tasks, the tasks' states become status updates.
//!
//! The core decides (pure: records, events and time in, actions out); the overseer carries its
//! actions to the runner and the agent. Every update is in the executor's journal before it is sent.
//! This room starts no process and writes no journal: it asks the runner to.

mod bounds;
mod compaction;
mod core;
mod entry;
mod interface;
mod overseer;
mod prepare;
mod start;
mod task_source;
mod terminal_update;
#[cfg(test)]
mod tests;
mod updates;

pub use bounds::Bounds;
pub use start::{EXECUTOR_RUNNER, EXECUTOR_RUNNER_VERB, ExecutorError, begin};
