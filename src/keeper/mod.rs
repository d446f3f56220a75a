//! Root and keeper: the hands of dewar.
//!
//! The keeper is the parent of every process of its tasks: one locally, all of an executor's under
//! Mesos. It starts what it is told to start, behind a gate that opens when the start is on disk;
//! it peeks at the end of a process, has it written, and only then reaps; it is the only writer of
//! the journals. The root waits above it and becomes the keeper when that one dies.
//! This room knows nothing of orders, retries or states of tasks: the runner decides those.

mod child;
mod commands;
mod confine;
mod conversation;
mod dens;
mod ends;
mod exit_info;
mod go;
mod groups;
mod interrupted;
mod launch;
mod link;
mod live;
mod log_source;
mod log_stream;
mod log_sync;
mod logs;
mod main_loop;
mod probes;
mod proc;
mod pump;
mod recording;
mod root;
mod runner_process;
mod runs;
mod stopping;
mod takeover;
mod tasks;
mod tree;
mod trim;
mod vault;
mod writer;

pub use commands::open_directory;
pub use dens::try_private;
pub use go::{Go, GoError};
pub use link::{LinkBuffer, frame_message, messages};
pub use live::{Holder, Live, LiveView};
pub use proc::boot_id;
pub use root::{
    ForkedRoot, JOURNAL, LIVE, ROOT_VERB, SOCKET, become_root, exec_root, fork_root, root_main,
};
pub use runner_process::{DISTRUST, RUNNER_VERB, RunnerKind, RunnerSetup};
pub use trim::{trim_code, trim_heap};
