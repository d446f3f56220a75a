//! The companion scheduler: jobs of many instances on a Mesos cluster, through our own executor.
//!
//! Mesos is the distributed engine; this room keeps what is wanted, answers offers and survives its own
//! death. `core/` decides, the rest carries to and fro. It knows nothing of processes.

pub mod core;
mod wire;

pub use wire::{ExecutorCommand, Meaning, Translator};
