//! Limits that the kernel enforces.

mod enforced;

pub use enforced::{put, remove_groups};
