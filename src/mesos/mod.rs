//! The wing of Mesos: its protocol, dewar's executor and scheduler, and fakes of an agent and a
//! master.

pub mod executor;
pub mod fakes;
pub mod protocol;
pub mod scheduler;
