//! What the tests share.

mod bench;
pub mod cgroups;
pub mod debugger;
pub mod descriptors;
pub mod systemd;
pub mod tracer;

pub use bench::{
    Bench, Known, SmallDisk, code, finish, kill_at_once, living_in, process_of, signal, stderr,
    stdout, wait_for,
};
