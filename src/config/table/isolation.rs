//! The fields of `isolation` and `volumes`.

use super::row::{Absent, Kind, Row, Table};

/// How far a task may be kept from its machine.
pub(crate) const LEVELS: &[&str] = &["directory", "private"];

/// The `isolation` of a task, when it is a map.
pub(crate) static ISOLATION: Table = Table {
    what: "isolation",
    words: "How far, and what is done without.",
    definition: Some("isolation"),
    groups: &[&[
        Row {
            name: "level",
            kind: Kind::Choice(LEVELS),
            absent: Absent::Required,
            words: "directory or private.",
        },
        Row {
            name: "without",
            kind: Kind::Protections,
            absent: Absent::Nothing,
            words: "Protections that it does without.",
        },
    ]],
    later: &[],
};

/// One of the `volumes` of a task.
pub(crate) static VOLUME: Table = Table {
    what: "a volume",
    words: "A place in a private task's file system.",
    definition: Some("volume"),
    groups: &[&[
        Row {
            name: "container_path",
            kind: Kind::Text,
            absent: Absent::Required,
            words: "Where the task finds it.",
        },
        Row {
            name: "host_path",
            kind: Kind::Text,
            absent: Absent::OneOf,
            words: "A directory or file of the machine.",
        },
        Row {
            name: "mode",
            kind: Kind::Choice(&["RO", "RW", "ro", "rw"]),
            absent: Absent::Words("RO"),
            words: "{default} by default.",
        },
        Row {
            name: "tmpfs",
            kind: Kind::Size,
            absent: Absent::OneOf,
            words: "Instead of host_path: files in memory, at most so much.",
        },
    ]],
    later: &[],
};
