//! The wing of Mesos: its protocol, our executor, our scheduler, and fakes of an agent and a master.

pub mod executor;
pub mod fakes;
pub mod protocol;
pub mod scheduler;
