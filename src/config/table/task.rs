//! The fields of task files: the task, its processes, their output and their pauses.

use super::{
    health::{HEALTH, LIFECYCLE},
    isolation::{ISOLATION, VOLUME},
    resources::{LIMITS, RESOURCES},
    row::{Absent, Kind, Row, Table},
};

/// A task: the whole file, or one of its `tasks`.
pub(crate) static TASK: Table = Table {
    what: "a task",
    words: "A DAG of processes in one sandbox.",
    definition: Some("task"),
    groups: &[&[
        Row {
            name: "name",
            kind: Kind::Text,
            absent: Absent::Words("the first process' name"),
            words: "The default is {default}.",
        },
        Row {
            name: "processes",
            kind: Kind::Maps(&PROCESS),
            absent: Absent::Required,
            words: "What runs.",
        },
        Row {
            name: "constraints",
            kind: Kind::Maps(&CONSTRAINT),
            absent: Absent::Nothing,
            words: "Orders between processes.",
        },
        Row {
            name: "resources",
            kind: Kind::Map(&RESOURCES),
            absent: Absent::Nothing,
            words: "A reservation of the task as a whole; a limit with --enforce-task.",
        },
        Row {
            name: "max_failures",
            kind: Kind::Count,
            absent: Absent::Value("1"),
            words: "Failed processes that fail the task; 0: no limit; {default} by default.",
        },
        Row {
            name: "max_concurrency",
            kind: Kind::Count,
            absent: Absent::Value("0"),
            words: "Processes that run at a time; {default}, the default: no limit.",
        },
        Row {
            name: "finalization_wait",
            kind: Kind::Period,
            absent: Absent::Value("30s"),
            words: "SIGTERM, final processes, SIGKILL: all within this; {default} by default.",
        },
        Row {
            name: "final_wait",
            kind: Kind::Period,
            absent: Absent::Nothing,
            words: "How much of finalization_wait is kept for final processes.",
        },
        Row {
            name: "user",
            kind: Kind::Text,
            absent: Absent::Words("the user that runs dewar"),
            words: "Who runs the processes.",
        },
        Row {
            name: "health",
            kind: Kind::Map(&HEALTH),
            absent: Absent::Nothing,
            words: "How to tell whether the task works.",
        },
        Row {
            name: "lifecycle",
            kind: Kind::Map(&LIFECYCLE),
            absent: Absent::Nothing,
            words: "How to ask it to end.",
        },
        Row {
            name: "isolation",
            kind: Kind::WordOrMap(&ISOLATION),
            absent: Absent::Value("directory"),
            words: "How far it is kept from its machine; {default} by default.",
        },
        Row {
            name: "volumes",
            kind: Kind::Maps(&VOLUME),
            absent: Absent::Nothing,
            words: "What a private task has of the machine beside its sandbox.",
        },
    ]],
    later: &[],
};

/// One process of a task.
pub(crate) static PROCESS: Table = Table {
    what: "a process",
    words: "One process.",
    definition: Some("process"),
    groups: &[&[
        Row {
            name: "name",
            kind: Kind::Text,
            absent: Absent::Required,
            words: "Also its log directory.",
        },
        Row {
            name: "cmdline",
            kind: Kind::Text,
            absent: Absent::OneOf,
            words: "A script for `shell`.",
        },
        Row {
            name: "argv",
            kind: Kind::Texts,
            absent: Absent::OneOf,
            words: "Instead of cmdline: a program and its arguments.",
        },
        Row {
            name: "shell",
            kind: Kind::Text,
            absent: Absent::Words("/bin/bash"),
            words: "Words in front of -c CMDLINE; {default} by default.",
        },
        Row {
            name: "max_failures",
            kind: Kind::Count,
            absent: Absent::Value("1"),
            words: "Failed runs until it is failed for good; 0: no limit; {default} by default.",
        },
        Row {
            name: "max_runs",
            kind: Kind::Count,
            absent: Absent::Value("100"),
            words: "Runs without success until it is failed for good; 0: no limit; {default} by default.",
        },
        Row {
            name: "daemon",
            kind: Kind::Boolean,
            absent: Absent::Value("false"),
            words: "Run again after success too.",
        },
        Row {
            name: "ephemeral",
            kind: Kind::Boolean,
            absent: Absent::Value("false"),
            words: "Not waited for.",
        },
        Row {
            name: "final",
            kind: Kind::Boolean,
            absent: Absent::Value("false"),
            words: "Runs in the finalizing stage.",
        },
        Row {
            name: "min_duration",
            kind: Kind::Period,
            absent: Absent::Value("5s"),
            words: "Pause between the end of a run and the next start; {default} by default.",
        },
        Row {
            name: "stop_timeout",
            kind: Kind::Period,
            absent: Absent::Nothing,
            words: "From the stop signal to SIGKILL, if less than the task's finalization_wait.",
        },
        Row {
            name: "user",
            kind: Kind::Text,
            absent: Absent::Words("the task's"),
            words: "Instead of the task's user.",
        },
        Row {
            name: "umask",
            kind: Kind::Text,
            absent: Absent::Nothing,
            words: "File mode creation mask, octal.",
        },
        Row {
            name: "working_dir",
            kind: Kind::Text,
            absent: Absent::Words("the sandbox"),
            words: "Relative to the sandbox.",
        },
        Row {
            name: "env",
            kind: Kind::Variables,
            absent: Absent::Nothing,
            words: "Variables, added to the clean environment.",
        },
        Row {
            name: "logger",
            kind: Kind::Map(&LOGGER),
            absent: Absent::Nothing,
            words: "Where its output goes.",
        },
        Row {
            name: "resources",
            kind: Kind::Map(&LIMITS),
            absent: Absent::Nothing,
            words: "What it may use: enforced by the kernel, or refused.",
        },
        Row {
            name: "after",
            kind: Kind::Conditions,
            absent: Absent::Nothing,
            words: "What must be true of other processes before it starts.",
        },
        Row {
            name: "health",
            kind: Kind::Map(&HEALTH),
            absent: Absent::Nothing,
            words: "How to tell whether a run works.",
        },
        Row {
            name: "backoff",
            kind: Kind::Map(&BACKOFF),
            absent: Absent::Words("constant"),
            words: "How that pause grows.",
        },
        Row {
            name: "timeout",
            kind: Kind::Period,
            absent: Absent::Nothing,
            words: "A run that takes longer is killed and has failed.",
        },
        Row {
            name: "stop_signal",
            kind: Kind::Text,
            absent: Absent::Words("SIGTERM"),
            words: "What asks it to stop; {default} by default.",
        },
        Row {
            name: "env_file",
            kind: Kind::TextOrTexts,
            absent: Absent::Nothing,
            words: "Files of variables, read before every run.",
        },
    ]],
    later: &[],
};

/// An order of processes.
pub(crate) static CONSTRAINT: Table = Table {
    what: "a constraint",
    words: "Processes that run strictly one after the other.",
    definition: Some("constraint"),
    groups: &[&[Row {
        name: "order",
        kind: Kind::Texts,
        absent: Absent::Required,
        words: "Names of processes, first to last.",
    }]],
    later: &[],
};

/// The `logger` of a process.
pub(crate) static LOGGER: Table = Table {
    what: "a logger",
    words: "Where output goes.",
    definition: Some("logger"),
    groups: &[&[
        Row {
            name: "destination",
            kind: Kind::Choice(&["file", "console", "both", "none"]),
            absent: Absent::Value("file"),
            words: "Which readers; {default} by default.",
        },
        Row {
            name: "mode",
            kind: Kind::Choice(&["standard", "rotate"]),
            absent: Absent::Value("standard"),
            words: "How files grow; {default} (without bounds) by default.",
        },
        Row {
            name: "rotate",
            kind: Kind::Map(&ROTATE),
            absent: Absent::Nothing,
            words: "The sizes of mode rotate.",
        },
    ]],
    later: &[],
};

/// The `rotate` of a logger.
pub(crate) static ROTATE: Table = Table {
    what: "a rotate policy",
    words: "The sizes of mode rotate.",
    definition: None,
    groups: &[&[
        Row {
            name: "log_size",
            kind: Kind::Size,
            absent: Absent::Value("100MB"),
            words: "A file of this size becomes a backup; {default} by default.",
        },
        Row {
            name: "backups",
            kind: Kind::Count,
            absent: Absent::Value("5"),
            words: "Old files kept; {default} by default.",
        },
    ]],
    later: &[],
};

/// The `backoff` of a process.
pub(crate) static BACKOFF: Table = Table {
    what: "a back-off",
    words: "How the pause between runs grows.",
    definition: Some("backoff"),
    groups: &[&[
        Row {
            name: "factor",
            kind: Kind::Number,
            absent: Absent::Value("2"),
            words: "From one run to the next; {default} by default.",
        },
        Row {
            name: "max",
            kind: Kind::Period,
            absent: Absent::Value("5m"),
            words: "The longest pause; {default} by default.",
        },
        Row {
            name: "jitter",
            kind: Kind::Number,
            absent: Absent::Value("0.1"),
            words: "Up to this share is added at random; {default} by default.",
        },
        Row {
            name: "reset_after",
            kind: Kind::Period,
            absent: Absent::Value("10m"),
            words: "A run of this length makes it begin anew; {default} by default.",
        },
    ]],
    later: &[],
};
