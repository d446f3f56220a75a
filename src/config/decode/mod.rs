//! From the tree to tasks and jobs: one file a part, every mistake collected.

pub mod fields;
pub mod health;
pub mod isolation;
pub mod job;
pub mod launch;
pub mod lifecycle;
pub mod logger;
pub mod process;
pub mod resources;
pub mod task;
pub mod unknown_fields;
pub mod wrapper;
