//! The runner as its keeper sees it: a process, a socket, and how far it has been told.

use super::runner_process::RunnerProcess;
use crate::engine::ipc::LinkBuffer;

/// The connection to the present runner.
pub(super) struct Runner {
    pub process: RunnerProcess,
    pub(super) inbox: LinkBuffer,
    pub(super) outbox: Vec<u8>,
    pub(super) writable: bool,
    pub(super) born: u64,
}
