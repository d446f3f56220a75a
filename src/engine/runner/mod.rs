//! The runner: replays the journal, feeds events to the plan, sends its decisions to the keeper,
//! keeps timers, and answers clients.
//!
//! It owns no fact: all it knows comes from the journal. Killing it costs a replay and nothing
//! else. It never touches a process.

mod background_work;
mod batch;
mod clients;
mod disk_watch;
mod engine;
mod error;
mod first_report;
mod health_check;
mod http_tcp_probe;
mod keeper_features;
mod keeper_link;
mod launch_orders;
mod log_order;
mod main_loop;
mod promises;
mod running_task;
mod steering;
mod task_checks;
mod task_requests;

pub use error::IsolationError;
pub use launch_orders::check_isolation;
pub use main_loop::{LOCAL, runner_main};
pub use steering::{Members, Steering, Want};
