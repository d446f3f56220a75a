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
    /// What came over the link could not be used: nothing more is read from it or sent to it.
    pub(super) is_broken: bool,
    /// When it is killed, because it has closed its end of the link and goes on living.
    pub(super) leave_by: Option<u64>,
}
