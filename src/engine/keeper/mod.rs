//! Root and keeper: the hands of dewar.
//!
//! The keeper is the parent of every process of its tasks: one locally, all of an executor's under
//! Mesos. It starts what it is told to start, behind a gate that opens when the start is on disk;
//! it peeks at the end of a process, has it written, and only then reaps; it is the only writer of
//! the journals. The root waits above it and becomes the keeper when that one dies.
//! This room knows nothing of orders, retries or states of tasks: the runner decides those.

mod batch_check;
mod batches;
mod begin;
mod cgroups;
mod commands;
mod detach;
mod earlier_runs;
mod error;
mod event_loop;
mod foreign_exit_code;
mod gates;
mod handed_over;
mod health_script;
mod health_scripts;
mod journal_writer;
mod journals;
mod keeper;
mod last_output;
mod launch_queue;
mod launching;
mod memory_kills;
mod namespaces;
mod output;
mod pending;
mod poller;
mod private_tasks;
mod processes;
mod pumping;
mod reaping;
mod record_run_end;
mod root;
mod run_groups;
mod run_usage;
mod runner_life;
mod runner_link;
mod runner_process;
mod runs;
mod shared;
mod signals;
mod spawn;
mod stopping;
mod strays;
mod succession;
mod survivors;
mod task_records;
mod tasks;

pub use error::{KeeperError, MemberError};
pub use namespaces::{PrivateError, try_private};
pub use root::{ForkedRoot, become_root, fork_root, root_main};
pub(crate) use spawn::is_pumped;
