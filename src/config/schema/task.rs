//! The JSON Schema of task files.
//!
//! It says what a file may look like; what must hold between its parts (names, cycles, stages) only
//! `dewar validate` knows.

use serde_json::{Value, json};

use super::fields::{alternatives, choice, definitions, object};
use crate::config::table::{
    health::{HEALTH, LIFECYCLE},
    isolation::{ISOLATION, LEVELS, VOLUME},
    resources::{LIMITS, RESOURCES},
    row::Table,
    task::{BACKOFF, CONSTRAINT, LOGGER, PROCESS, TASK},
};

/// Every map of a task file that is a definition of its own.
static DEFINED: [&Table; 11] = [
    &TASK,
    &PROCESS,
    &CONSTRAINT,
    &RESOURCES,
    &LIMITS,
    &ISOLATION,
    &VOLUME,
    &HEALTH,
    &LIFECYCLE,
    &LOGGER,
    &BACKOFF,
];

/// The schema, draft 2020-12.
pub fn json_schema() -> Value {
    let mut definitions = definitions();
    for table in DEFINED {
        if let Some(name) = table.definition {
            definitions[name] = object(table);
        }
    }
    definitions["process"]["anyOf"] = alternatives(&PROCESS);
    definitions["health"]["oneOf"] = alternatives(&HEALTH);
    definitions["isolation"] = json!({"anyOf": [choice(LEVELS), object(&ISOLATION)]});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dewar task file",
        "description": "One task, or several as {tasks: [...]}. See `dewar validate` for what a schema cannot say.",
        "anyOf": [
            {"$ref": "#/$defs/task"},
            {
                "type": "object",
                "properties": {"tasks": {"type": "array", "items": {"$ref": "#/$defs/task"}}},
                "required": ["tasks"],
                "additionalProperties": false
            }
        ],
        "$defs": definitions
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_taken_for_what_need_not_be_there() {
        let validator = jsonschema::validator_for(&json_schema()).unwrap();
        let task =
            |logger: Value| json!({"processes": [{"name": "a", "cmdline": "x", "logger": logger}]});
        assert!(validator.is_valid(&task(json!({"rotate": null}))));
        assert!(validator.is_valid(&task(Value::Null)));
        assert!(!validator.is_valid(&task(json!({"rotates": null}))));
    }

    #[test]
    fn defaults_are_values_of_their_kinds() {
        let schema = json_schema();
        let default =
            |map: &str, name: &str| schema["$defs"][map]["properties"][name]["default"].clone();
        assert_eq!(default("task", "max_failures"), json!(1));
        assert_eq!(default("backoff", "jitter"), json!(0.1));
        assert_eq!(default("process", "daemon"), json!(false));
        assert_eq!(default("task", "finalization_wait"), json!("30s"));
        assert_eq!(default("process", "stop_signal"), Value::Null);
    }
}
