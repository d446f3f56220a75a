//! The command line: one file a verb. It parses, calls and prints; decisions are made in other
//! rooms.

mod args;
mod early_verb;
mod entry;
mod failure;
mod flags;
mod follow;
mod job;
mod limit_flags;
mod live;
mod plain;
mod run_alone;
mod signals;
mod sources;
mod task_file;
mod terminal;
mod verbs;
mod view;

pub use entry::main;
