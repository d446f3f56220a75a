//! What root, keeper, runner and clients say to each other, and where the files of a task are.
//!
//! Field numbers and names of files are for ever: programs of different versions meet here. This
//! room starts nothing and decides nothing.

mod frames;
mod layout;
mod live;
mod needs;
mod requests;
mod run_key;
mod runner_setup;
mod startup;

pub use frames::{LinkBuffer, LinkError, frame_message, messages};
pub(crate) use layout::ENGINE_LOG;
pub use layout::{JOURNAL, LIVE, SOCKET, live_file, open_directory, refuse_older_roots};
pub(crate) use live::{Gate, Pass};
pub use live::{Holder, HoldersView, SharedState};
pub(crate) use needs::{drop_needs, needs_of};
pub use requests::{Request, write_request};
pub(crate) use run_key::Key;
pub use runner_setup::{DISTRUST, ROOT_VERB, RUNNER_VERB, RunnerKind, RunnerSetup, UNFIT};
pub use startup::{StartError, StartRequest};
