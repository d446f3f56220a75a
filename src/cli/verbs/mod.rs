//! One file a verb: its arguments, its call, what it prints.

pub mod attach;
pub mod doctor;
pub mod executor;
pub mod explain;
pub mod fake_agent;
pub mod gc;
pub mod generate;
pub mod graph;
pub mod inspect;
pub mod kill;
pub mod restart_and_signal;
pub mod run;
pub mod scheduler;
pub mod simplerun;
pub mod status;
pub mod tail;
pub mod validate;
