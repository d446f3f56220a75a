//! From a start command to a child behind its gate.
//!
//! Between fork and exec only raw system calls are made, on memory that was prepared before the fork.

mod child;
mod confine;
mod launch;

pub(crate) use confine::Confinement;
pub(crate) use launch::{Bounds, Launched, Setting, explain, launch, launch_probe, reopen};
