//! `kill -9` of our own processes, before every system call that they make.

mod kills;

pub use kills::{TASK, assert_no_orphans, expected_runs, id};
