//! The command line: one file a verb. Parse, call, print; the logic is elsewhere.

mod args;
mod attach;
mod bounds;
mod describe;
mod doctor;
mod executor;
mod explain;
mod failure;
mod fake_agent;
mod follow;
mod gc;
mod graph;
mod inspect;
mod job;
mod kill;
mod live;
mod logs;
mod main;
mod run;
mod scheduler;
mod session;
mod simplerun;
mod status;
mod steer;
mod tail;
mod task_file;
mod terminal;
mod validate;
mod view;
mod watched;

pub use main::main;
