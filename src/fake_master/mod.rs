//! A master for tests: real HTTP, agents that are only names, faults on demand.
//!
//! Production paths do not come here.

mod core;

pub use core::{AgentSpec, Master, Refusal};
