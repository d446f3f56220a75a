//! The JSON Schema of task files, for editors: completion and mistakes while typing.
//!
//! It says what a file may look like; what must hold between its parts (names, cycles, stages) only
//! `dewar validate` knows. Thermos' coercions are part of it: numbers may be strings, and strings may
//! hold templates.

use serde_json::{Map, Value, json};

/// The schema, draft 2020-12.
pub fn json_schema() -> Value {
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
        "$defs": {
            "task": object("A DAG of processes in one sandbox.", &["processes"], task()),
            "process": process(),
            "constraint": object("Processes that run strictly one after the other.", &["order"], fields(&[
                ("order", "Names of processes, first to last.", strings()),
            ])),
            "resources": object("What the task as a whole may use.", &[], Value::Object(usable())),
            "limits": limits(),
            "isolation": isolation(),
            "volume": object("A place in a private task's file system.", &["container_path"], fields(&[
                ("container_path", "Where the task finds it.", string()),
                ("host_path", "A directory or file of the machine.", string()),
                ("mode", "RO by default.", choice(&["RO", "RW", "ro", "rw"])),
                ("tmpfs", "Instead of host_path: files in memory, at most so much.", size()),
            ])),
            "health": health(),
            "lifecycle": object("Asking the task over HTTP to end, before it is sent signals.", &["http"], fields(&[
                ("http", "POST at 127.0.0.1.", object("POST at 127.0.0.1.", &["port"], fields(&[
                    ("port", "Of 127.0.0.1.", port()),
                    ("graceful_shutdown_endpoint", "Asked first; /quitquitquit by default.", string()),
                    ("shutdown_endpoint", "Asked second; /abortabortabort by default.", string()),
                    ("graceful_shutdown_wait", "What the first is given; 5s by default.", period()),
                    ("shutdown_wait", "What the second is given; 5s by default.", period()),
                ]))),
            ])),
            "logger": object("Where output goes.", &[], fields(&[
                ("destination", "Which readers; file by default.", choice(&["file", "console", "both", "none"])),
                ("mode", "How files grow; standard (without bounds) by default.", choice(&["standard", "rotate"])),
                ("rotate", "The sizes of mode rotate.", object("The sizes of mode rotate.", &[], fields(&[
                    ("log_size", "A file of this size becomes a backup; 100MB by default.", size()),
                    ("backups", "Old files kept; 5 by default.", count()),
                ]))),
            ])),
            "backoff": object("How the pause between runs grows.", &[], fields(&[
                ("factor", "From one run to the next; 2 by default.", number()),
                ("max", "The longest pause; 5m by default.", period()),
                ("jitter", "Up to this share is added at random; 0.1 by default.", number()),
                ("reset_after", "A run of this length makes it begin anew; 10m by default.", period()),
            ])),
            "count": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]},
            "number": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]},
            "boolean": {"anyOf": [{"type": "boolean"}, {"type": "number"}, {"type": "string"}]},
            "text": {"type": ["string", "number", "boolean"]},
            "period": {
                "description": "500ms, 5s, 2m, 1h30m; a bare number is seconds.",
                "anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]
            },
            "size": {
                "description": "128MB, 64MiB, 2GB; a bare number is bytes.",
                "anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]
            },
            "port": {
                "description": "A number, or {{thermos.ports[NAME]}}.",
                "anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]
            }
        }
    })
}

fn task() -> Value {
    fields(&[
        ("name", "The default is the first process' name.", string()),
        (
            "processes",
            "What runs.",
            json!({"type": "array", "items": reference("process")}),
        ),
        (
            "constraints",
            "Orders between processes.",
            list(reference("constraint")),
        ),
        (
            "resources",
            "A reservation of the task as a whole; a limit with --enforce-task.",
            nullable(reference("resources")),
        ),
        (
            "isolation",
            "How far it is kept from its machine; directory by default.",
            nullable(reference("isolation")),
        ),
        (
            "volumes",
            "What a private task has of the machine beside its sandbox.",
            list(reference("volume")),
        ),
        (
            "max_failures",
            "Failed processes that fail the task; 0: no limit; 1 by default.",
            count(),
        ),
        (
            "max_concurrency",
            "Processes that run at a time; 0, the default: no limit.",
            count(),
        ),
        (
            "finalization_wait",
            "SIGTERM, final processes, SIGKILL: all within this; 30s by default.",
            period(),
        ),
        ("user", "Who runs the processes.", string()),
        (
            "health",
            "How to tell whether the task works.",
            nullable(reference("health")),
        ),
        (
            "lifecycle",
            "How to ask it to end.",
            nullable(reference("lifecycle")),
        ),
    ])
}

fn process() -> Value {
    let properties = fields(&[
        ("name", "Also its log directory.", string()),
        ("cmdline", "A script for `shell`.", string()),
        (
            "argv",
            "Instead of cmdline: a program and its arguments.",
            strings(),
        ),
        (
            "shell",
            "Words in front of -c CMDLINE; /bin/bash by default.",
            string(),
        ),
        (
            "max_failures",
            "Failed runs until it is failed for good; 0: no limit; 1 by default.",
            count(),
        ),
        (
            "max_runs",
            "Runs without success until it is failed for good; 0: no limit; 100 by default.",
            count(),
        ),
        ("daemon", "Run again after success too.", boolean()),
        ("ephemeral", "Not waited for.", boolean()),
        ("final", "Runs in the finalizing stage.", boolean()),
        (
            "min_duration",
            "Pause between the end of a run and the next start; 5s by default.",
            period(),
        ),
        (
            "backoff",
            "How that pause grows.",
            nullable(reference("backoff")),
        ),
        (
            "timeout",
            "A run that takes longer is killed and has failed.",
            period(),
        ),
        (
            "stop_signal",
            "What asks it to stop; SIGTERM by default.",
            string(),
        ),
        (
            "stop_timeout",
            "From the stop signal to SIGKILL, if less than the task's finalization_wait.",
            period(),
        ),
        ("user", "Instead of the task's user.", string()),
        ("umask", "File mode creation mask, octal.", string()),
        ("working_dir", "Relative to the sandbox.", string()),
        (
            "env",
            "Variables, added to the clean environment.",
            json!({
                "type": ["object", "null"],
                "additionalProperties": {"type": ["string", "number", "boolean", "null"]}
            }),
        ),
        (
            "env_file",
            "Files of variables, read before every run.",
            json!({
                "anyOf": [string(), strings()]
            }),
        ),
        (
            "logger",
            "Where its output goes.",
            nullable(reference("logger")),
        ),
        (
            "resources",
            "What it may use: enforced by the kernel, or refused.",
            nullable(reference("limits")),
        ),
        (
            "after",
            "What must be true of other processes before it starts.",
            json!({
                "type": ["object", "null"],
                "additionalProperties": {"enum": ["started", "healthy", "succeeded", "completed", "failed"]}
            }),
        ),
        (
            "health",
            "How to tell whether a run works.",
            nullable(reference("health")),
        ),
    ]);
    let mut process = object("One process.", &["name"], properties);
    process["anyOf"] = json!([{"required": ["cmdline"]}, {"required": ["argv"]}]);
    process
}

/// What a task's and a process' resources have in common.
fn usable() -> Map<String, Value> {
    let fields = fields(&[
        (
            "cpu",
            "Cores: 0.5 is half of one's time; 0: no limit.",
            number(),
        ),
        (
            "ram",
            "Memory; who needs more is killed. 0: no limit.",
            size(),
        ),
        ("disk", "Space in the sandbox; of a task.", size()),
        ("gpu", "Devices; never enforced here.", count()),
        (
            "cpu_weight",
            "The share when the CPU is short, 1 to 10000; 100 by default.",
            count(),
        ),
        (
            "ram_high",
            "Memory from which on it is slowed down.",
            size(),
        ),
        ("swap", "Swap space; 0: none.", size()),
        ("pids", "Processes and threads at a time.", count()),
        (
            "io_weight",
            "The share when the disks are short, 1 to 10000.",
            count(),
        ),
        (
            "best_effort",
            "What cannot be enforced is reported, not refused.",
            boolean(),
        ),
    ]);
    match fields {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn limits() -> Value {
    let whole = json!({"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "null"}]});
    let bound = json!({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]});
    let limit = json!({
        "anyOf": [bound, object("Both limits.", &[], fields(&[
            ("soft", "What holds.", bound.clone()),
            ("hard", "How far the process may raise it.", bound.clone()),
        ]))]
    });
    let named = crate::task::Rlimits::NAMES.map(|name| (name, "See setrlimit(2).", limit.clone()));
    let own = fields(&[
        (
            "rlimits",
            "Limits by name: a number, a size, unlimited, or {soft, hard}.",
            nullable(object("Limits by name.", &[], fields(&named))),
        ),
        ("nice", "-20 (first) to 19 (last).", whole.clone()),
        (
            "oom_score_adj",
            "-1000 (never) to 1000 (first) to be killed when memory is out.",
            whole,
        ),
    ]);
    let mut all = usable();
    if let Value::Object(own) = own {
        all.extend(own);
    }
    object("What a process may use.", &[], Value::Object(all))
}

fn isolation() -> Value {
    let level = choice(&["directory", "private"]);
    let names = crate::task::Protection::ALL.map(crate::task::Protection::name);
    let without = json!({"type": ["array", "null"], "items": {"enum": names}});
    let long = object(
        "How far, and what is done without.",
        &["level"],
        fields(&[
            ("level", "directory or private.", level.clone()),
            ("without", "Protections that it does without.", without),
        ]),
    );
    json!({"anyOf": [level, long]})
}

fn health() -> Value {
    let properties = fields(&[
        (
            "http",
            "GET at 127.0.0.1.",
            object(
                "GET at 127.0.0.1.",
                &["port"],
                fields(&[
                    ("port", "Of 127.0.0.1.", port()),
                    ("path", "With its query; /health by default.", string()),
                    (
                        "status",
                        "The right status; any from 200 to 399 by default.",
                        count(),
                    ),
                    ("body", "The right body; any by default.", string()),
                ]),
            ),
        ),
        (
            "tcp",
            "A connection to 127.0.0.1.",
            object(
                "A connection to 127.0.0.1.",
                &["port"],
                fields(&[("port", "Of 127.0.0.1.", port())]),
            ),
        ),
        (
            "shell",
            "A script for bash; exit code 0 is healthy.",
            string(),
        ),
        (
            "delay",
            "Before the first attempt; 0s by default.",
            period(),
        ),
        (
            "initial_interval",
            "A grace: failures within it are ignored; 15s by default.",
            period(),
        ),
        ("interval", "Between attempts; 10s by default.", period()),
        ("timeout", "For one attempt; 1s by default.", period()),
        (
            "max_consecutive_failures",
            "One failure in a row more is the end; 0 by default.",
            count(),
        ),
        (
            "min_consecutive_successes",
            "Make it healthy; 1 by default.",
            count(),
        ),
    ]);
    let mut health = object("How to tell whether something works.", &[], properties);
    health["oneOf"] = json!([
        {"required": ["http"]}, {"required": ["tcp"]}, {"required": ["shell"]}
    ]);
    health
}

pub(super) fn fields(list: &[(&str, &str, Value)]) -> Value {
    let described = list.iter().map(|(name, description, value)| {
        let mut value = value.clone();
        value["description"] = json!(description);
        ((*name).to_owned(), value)
    });
    Value::Object(described.collect::<Map<String, Value>>())
}

pub(super) fn object(description: &str, required: &[&str], properties: Value) -> Value {
    json!({
        "description": description,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false
    })
}

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

/// Null counts as absent.
pub(super) fn nullable(value: Value) -> Value {
    json!({"anyOf": [value, {"type": "null"}]})
}

fn list(items: Value) -> Value {
    json!({"type": ["array", "null"], "items": items})
}

fn choice(names: &[&str]) -> Value {
    json!({"anyOf": [{"enum": names}, {"type": "string", "pattern": "\\{\\{"}, {"type": "null"}]})
}

pub(super) fn string() -> Value {
    nullable(reference("text"))
}

pub(super) fn strings() -> Value {
    list(reference("text"))
}

pub(super) fn count() -> Value {
    nullable(reference("count"))
}

pub(super) fn number() -> Value {
    nullable(reference("number"))
}

pub(super) fn boolean() -> Value {
    nullable(reference("boolean"))
}

fn period() -> Value {
    nullable(reference("period"))
}

fn size() -> Value {
    nullable(reference("size"))
}

fn port() -> Value {
    reference("port")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::{
        resources::{OF_PROCESS, OF_TASK},
        task::{PROCESS, TASK},
    };

    fn names(definition: &str) -> Vec<String> {
        let schema = json_schema();
        let properties = schema["$defs"][definition]["properties"]
            .as_object()
            .unwrap();
        let mut names: Vec<String> = properties.keys().cloned().collect();
        names.sort();
        names
    }

    #[test]
    fn the_schema_has_the_fields_that_are_read() {
        let sorted = |known: &[&str]| {
            let mut known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
            known.sort();
            known
        };
        assert_eq!(names("task"), sorted(&TASK));
        assert_eq!(names("process"), sorted(&PROCESS));
        assert_eq!(names("resources"), sorted(&OF_TASK));
        assert_eq!(
            names("limits"),
            sorted(&[&OF_TASK[..], &OF_PROCESS].concat())
        );
    }
}
