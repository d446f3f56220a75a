//! From a start command to a child behind its gate.
//!
//! Between fork and exec only raw system calls are made, on memory that was prepared before the
//! fork.

mod child;
mod confine;
mod join_namespaces;
mod launch;
mod limits;
mod steps;

pub(crate) use confine::Confinement;
pub(crate) use launch::{
    Bounds, Entrance, Launched, Setting, is_pumped, launch, launch_script, reopen,
};
pub(crate) use limits::{bytes, limits_of};
pub(crate) use steps::explain;
