//! The Mesos executor: the agent's events become tasks, the tasks' states become status updates.
//!
//! The core decides (pure: records, events and time in, actions out); the driver carries its
//! actions to the runner and the agent. Every update is in the executor's journal before it is
//! sent. This room starts no process and writes no journal: it asks the runner to.

mod agent_events;
mod bounds;
mod calls;
mod core;
mod decide;
mod driver;
mod interface;
mod needed_records;
mod prepare;
mod start;
mod task_entry;
mod task_source;
mod terminal_update;
#[cfg(test)]
mod tests;
mod updates;

pub use bounds::Bounds;
pub use start::{EXECUTOR_RUNNER, EXECUTOR_RUNNER_VERB, ExecutorError, start};
