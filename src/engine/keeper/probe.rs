//! One running script of a health check.

use std::{fs::File, os::fd::OwnedFd};

use crate::protocols::dewar::link as wire;

/// A script that runs.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) about: wire::Probed,
    pub(super) pid: i32,
    pub(super) start_ticks: u64,
    pub(super) pidfd: OwnedFd,
    pub(super) slot: usize,
    /// The gate, open for it all the time.
    pub(super) _gate: OwnedFd,
    pub(super) output: File,
    pub(super) until: u64,
    pub(super) is_overdue: bool,
}
