//! What a program needs to begin, find, follow and steer a task: the cli has it today, the observer
//! later.
//!
//! It knows no terminal. It touches no process but the root that it starts.

mod find_or_begin;
mod log_chain;
mod log_events;
mod log_file;
mod log_follower;
mod log_line;
mod session;
mod session_error;
mod watched;

pub(crate) use log_file::Start;
pub(crate) use log_follower::LogFollower;
pub(crate) use log_line::{Cut, Line, Missed, Output};
pub(crate) use session::{Opened, Session};
pub(crate) use session_error::SessionError;
pub(crate) use watched::Watched;
