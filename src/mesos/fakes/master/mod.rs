//! A master for tests: real HTTP, agents that are only names, faults on demand.
//!
//! Nothing that runs in production uses it.

mod agent;
mod changes;
mod core;
mod faults;
mod master;
mod resource_totals;
mod server;
mod shared;
mod statuses;

pub use agent::AgentSpec;
pub use core::Master;
pub use faults::Fault;
pub use master::FakeMaster;
pub use shared::Options;
