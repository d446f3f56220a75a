//! The JSON Schema of job files, made of that of task files.

use serde_json::{Value, json};

use super::task::{
    boolean, count, fields, json_schema, nullable, number, object, reference, string, strings,
};

/// Editors complete and check job files with it.
pub fn job_schema() -> Value {
    let mut schema = json_schema();
    schema["title"] = json!("dewar job file");
    schema["description"] = json!("Instances of a task on a cluster; see docs/SCHEDULER.md.");
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("anyOf");
        schema.insert("$ref".to_owned(), json!("#/$defs/job"));
    }
    schema["$defs"]["job"] = object("Instances of a task on a cluster.", &["task"], job());
    schema
}

fn job() -> Value {
    let seconds = || nullable(json!({"anyOf": [reference("number"), reference("period")]}));
    let update = fields(&[
        (
            "batch_size",
            "Instances that are replaced at a time; 1 by default.",
            count(),
        ),
        (
            "watch_secs",
            "An instance must run so long, healthy, before it counts; 45 by default.",
            seconds(),
        ),
        (
            "max_per_shard_failures",
            "Failures of one instance that are forgiven; 0 by default.",
            count(),
        ),
        (
            "max_total_failures",
            "Failed instances that are forgiven; 0 by default.",
            count(),
        ),
        (
            "rollback_on_failure",
            "An update that fails is undone; true by default.",
            boolean(),
        ),
        (
            "wait_for_batch_completion",
            "The next batch begins when the whole of this one is done; false by default.",
            boolean(),
        ),
    ]);
    let partition = fields(&[
        (
            "reschedule",
            "Instances on agents that nobody hears of are replaced; true by default.",
            boolean(),
        ),
        ("delay_secs", "After so long; 0 by default.", seconds()),
    ]);
    let any = || json!({"type": ["object", "null"]});
    fields(&[
        ("name", "The task's name by default.", string()),
        (
            "role",
            "Whose it is, and the user that runs it; yours by default.",
            string(),
        ),
        ("environment", "devel by default.", string()),
        (
            "cluster",
            "Not looked at: a job is for the cluster that it is sent to.",
            string(),
        ),
        ("instances", "How many; 1 by default.", count()),
        (
            "service",
            "Run again whenever it ends; else only until it ends well.",
            boolean(),
        ),
        (
            "max_task_failures",
            "Of what is no service: failures after which an instance is failed for good; -1: no limit.",
            nullable(json!({"anyOf": [reference("count"), {"const": -1}, {"const": "-1"}]})),
        ),
        (
            "priority",
            "Higher ones get places first.",
            number_or_negative(),
        ),
        (
            "constraints",
            "By attribute of the agent: limit:N, values (a,b), or none of these (!a,b).",
            json!({"type": ["object", "null"], "additionalProperties": reference("text")}),
        ),
        (
            "ports",
            "More names of ports beside those that the task refers to.",
            strings(),
        ),
        (
            "update_config",
            "How instances are replaced.",
            nullable(object("How instances are replaced.", &[], update)),
        ),
        (
            "partition_policy",
            "What becomes of instances on agents that nobody hears of.",
            nullable(object(
                "What becomes of instances on agents that nobody hears of.",
                &[],
                partition,
            )),
        ),
        (
            "task",
            "A task, or the path of a task file.",
            json!({"anyOf": [reference("task"), {"type": "string"}]}),
        ),
        (
            "health_check_config",
            "As Aurora has it; `health` in the task does more.",
            any(),
        ),
        (
            "lifecycle",
            "As Aurora has it; `lifecycle` in the task does more.",
            any(),
        ),
    ])
}

fn number_or_negative() -> Value {
    nullable(json!({"anyOf": [{"type": "integer"}, number()]}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::job::{JOB, UPDATE};

    #[test]
    fn the_schema_has_the_fields_that_are_read() {
        let schema = job_schema();
        let names = |value: &Value| {
            let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            names.sort();
            names
        };
        let sorted = |known: &[&str]| {
            let mut known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
            known.sort();
            known
        };
        let properties = &schema["$defs"]["job"]["properties"];
        assert_eq!(names(properties), sorted(&JOB));
        let update = &properties["update_config"]["anyOf"][0]["properties"];
        assert_eq!(names(update), sorted(&UPDATE));
    }
}
