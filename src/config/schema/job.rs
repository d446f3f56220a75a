//! The JSON Schema of job files, made of that of task files.

use serde_json::{Value, json};

use super::{fields::object, task::json_schema};
use crate::config::table::job::JOB;

/// The schema, draft 2020-12.
pub fn job_schema() -> Value {
    let mut schema = json_schema();
    schema["title"] = json!("dewar job file");
    schema["description"] = json!("Instances of a task on a cluster; see docs/SCHEDULER.md.");
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("anyOf");
        schema.insert("$ref".to_owned(), json!("#/$defs/job"));
    }
    schema["$defs"]["job"] = object(&JOB);
    schema
}
