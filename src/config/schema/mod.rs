//! JSON Schemas of task and job files, for editors: completion and mistakes while typing.

mod fields;
mod job;
mod task;

pub use job::job_schema;
pub use task::json_schema;
