//! A master for tests: real HTTP, agents that are only names, faults on demand.
//!
//! Production paths do not come here.

mod core;
mod faults;
mod master;
mod resource_totals;
mod server;
mod shared;

pub use core::{AgentSpec, Master};
pub use faults::Fault;
pub use master::FakeMaster;
pub use shared::Options;
