//! Every field of a task file and of a job file, in one table a map.

pub mod health;
#[cfg(test)]
mod held_fields;
pub mod isolation;
pub mod job;
pub mod resources;
pub mod row;
pub mod task;
#[cfg(test)]
mod tests;
pub mod wrapper;
