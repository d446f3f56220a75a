//! What the tests share.

mod bench;
pub mod cgroups;
pub mod systemd;
pub mod tracer;

pub use bench::{Bench, Known, SmallDisk, code, finish, kill_at_once, living_in, signal, wait_for};
