//! Output of processes: log files, and the pump that moves it from pipes into rotated ones.
//!
//! Invariant: a byte leaves its pipe in the system call that puts it into the file, so no death
//! loses or doubles one. The thread that pumps neither signals nor reaps.

mod files;
mod pump;
mod rotation;
mod source;
mod surviving_pipes;
mod sync;

pub(crate) use files::{LOGS, directory, open_log};
pub(crate) use pump::{Pump, PumpEvent};
pub(crate) use rotation::{Policy, Stream};
pub(crate) use source::Source;
pub(crate) use surviving_pipes::{FdSender, FdStore, Part, Pipes, Slot, fd_store};
