//! An agent for tests and for people without Mesos: real HTTP, behaving as a Mesos 1.11 agent does
//! towards one executor, with faults on demand.
//!
//! The core decides what the agent answers (pure); the server speaks HTTP; the executor runs in the
//! container. Nothing that runs in production uses it.

mod agent;
mod container;
mod core;
mod faults;
mod server;
mod shared;

pub use agent::{FakeAgent, Options};
pub use container::Container;
pub use faults::{Fault, ScheduledFault};
