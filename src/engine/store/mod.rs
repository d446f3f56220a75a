//! The tasks of this machine: listing, measuring and removing them.
//!
//! It reads the files that tasks left on the disk, and removes those of tasks that are over. It
//! changes nothing of a living task.

mod gc;
mod store;
mod usage;

pub use gc::{Policy, collect};
pub use store::{Store, StoreError, Stored, is_task_id};
pub use usage::{Look, Measure, measure};
