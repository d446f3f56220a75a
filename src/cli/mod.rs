//! The command line: one file a verb. Parse, call, print; the logic is elsewhere.

mod args;
mod attach;
mod executor;
mod failure;
mod fake_agent;
mod follow;
mod inspect;
mod kill;
mod logs;
mod main;
mod run;
mod session;
mod status;
mod tail;
mod task_file;
mod terminal;
mod validate;
mod view;
mod watched;

pub use main::main;
