//! Output of processes: log files, and the pump that moves it from pipes into rotated ones.
//!
//! Invariant: a byte leaves its pipe in the system call that puts it into the file, so no death
//! loses or doubles one. The thread that pumps neither signals nor reaps.

mod fd_store;
mod files;
mod pump;
mod source;
mod stream;
mod sync;

pub(crate) use fd_store::{FdSender, FdStore, Part, Pipes, Slot, fd_store};
pub(crate) use files::{LOGS, directory, open_log};
pub(crate) use pump::{Pump, PumpEvent};
pub(crate) use source::Source;
pub(crate) use stream::{Policy, Stream};
