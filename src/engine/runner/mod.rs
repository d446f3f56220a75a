//! The runner: replays the journal, feeds events to the plan, sends its decisions to the keeper,
//! keeps timers, and answers clients.
//!
//! It owns no fact: all it knows is the journal, replayed. Killing it costs a replay and nothing
//! else. It never touches a process.

mod clients;
mod disk_watch;
mod engine;
mod failure;
mod health_check;
mod launch_orders;
mod main_loop;
mod overseer;
mod probe;
mod running_task;

pub use launch_orders::check_isolation;
pub use main_loop::{LOCAL, runner_main};
pub use overseer::{Members, Overseer, Want};
