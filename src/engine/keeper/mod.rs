//! Root and keeper: the hands of dewar.
//!
//! The keeper is the parent of every process of its tasks: one locally, all of an executor's under
//! Mesos. It starts what it is told to start, behind a gate that opens when the start is on disk;
//! it peeks at the end of a process, has it written, and only then reaps; it is the only writer of
//! the journals. The root waits above it and becomes the keeper when that one dies.
//! This room knows nothing of orders, retries or states of tasks: the runner decides those.

mod batch;
mod begin;
mod cgroups;
mod commands;
mod conversation;
mod detach;
mod ends;
mod event_loop;
mod exit_info;
mod health_scripts;
mod journal_writer;
mod keeper;
mod namespaces;
mod output;
mod private_tasks;
mod probe;
mod recorded;
mod recording;
mod root;
mod runner_link;
mod runner_process;
mod runs;
mod shared;
mod spawn;
mod stopping;
mod strays;
mod takeover;
mod tasks;

pub use namespaces::try_private;
pub use root::{ForkedRoot, become_root, exec_root, fork_root, root_main};
