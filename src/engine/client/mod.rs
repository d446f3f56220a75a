//! What a program needs to begin, find, follow and steer a task: the cli has it today, the observer later.
//!
//! It knows no terminal. It touches no process but the root that it starts.

mod find;
mod logs;
mod session;
mod watched;

pub(crate) use logs::{Line, LogFollower};
pub(crate) use session::{Opened, Session};
pub(crate) use watched::Watched;
