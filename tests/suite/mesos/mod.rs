//! The executor under an agent: the fake one, and a real Mesos.

mod executor;
mod executor_faults;
mod executor_limits;
mod last_words;
pub mod real;
pub mod stage;
