//! An agent and a master over real HTTP, with faults on demand: for tests, and for people without
//! Mesos.
//!
//! Nothing that runs in production uses them.

pub mod agent;
pub mod listening;
pub mod master;
