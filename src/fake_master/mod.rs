//! A master for tests: real HTTP, agents that are only names, faults on demand.
//!
//! Production paths do not come here.

mod bag;
mod core;
mod faults;
mod master;
mod server;

pub use core::{AgentSpec, Master, Refusal};
pub use faults::Fault;
pub use master::{FakeMaster, Options, Script};
