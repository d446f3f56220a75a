//! An agent and a master over real HTTP, with faults on demand: for tests, and for people without Mesos.
//!
//! What runs in production never comes here.

pub mod agent;
pub mod listening;
pub mod master;
