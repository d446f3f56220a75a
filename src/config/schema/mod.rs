//! JSON Schemas of task and job files, for editors.

mod job;
mod task;

pub use job::job_schema;
pub use task::json_schema;
