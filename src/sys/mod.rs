//! The operating system's small things: clocks, /proc, timers, memory, retries, small files,
//! tracing.
//!
//! Everything may use this room; it uses no other.

pub mod clock;
pub mod errno;
pub mod executable;
pub mod memory;
pub mod process;
pub mod restless;
pub mod retry;
pub mod small_file;
pub mod stat;
pub mod timer;
pub mod trace;
pub mod tree;
pub mod zombie;
