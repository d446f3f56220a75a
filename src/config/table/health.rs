//! The fields of `health` and `lifecycle`.

use super::row::{Absent, Kind, Row, Table};

/// The `health` of a task or a process.
pub(crate) static HEALTH: Table = Table {
    what: "`health`",
    words: "How to tell whether something works.",
    definition: Some("health"),
    groups: &[&[
        Row {
            name: "http",
            kind: Kind::Map(&HTTP_PROBE),
            absent: Absent::OneOf,
            words: "GET at 127.0.0.1.",
        },
        Row {
            name: "tcp",
            kind: Kind::Map(&TCP_PROBE),
            absent: Absent::OneOf,
            words: "A connection to 127.0.0.1.",
        },
        Row {
            name: "shell",
            kind: Kind::Text,
            absent: Absent::OneOf,
            words: "A script for bash; exit code 0 is healthy.",
        },
        Row {
            name: "delay",
            kind: Kind::Period,
            absent: Absent::Value("0s"),
            words: "Before the first attempt; {default} by default.",
        },
        Row {
            name: "initial_interval",
            kind: Kind::Period,
            absent: Absent::Value("15s"),
            words: "A grace: failures within it are ignored; {default} by default.",
        },
        Row {
            name: "interval",
            kind: Kind::Period,
            absent: Absent::Value("10s"),
            words: "Between attempts; {default} by default.",
        },
        Row {
            name: "timeout",
            kind: Kind::Period,
            absent: Absent::Value("1s"),
            words: "For one attempt; {default} by default.",
        },
        Row {
            name: "max_consecutive_failures",
            kind: Kind::Count,
            absent: Absent::Value("0"),
            words: "One failure in a row more is the end; {default} by default.",
        },
        Row {
            name: "min_consecutive_successes",
            kind: Kind::Count,
            absent: Absent::Value("1"),
            words: "Make it healthy; {default} by default.",
        },
    ]],
    later: &[],
};

/// A health check by a request.
pub(crate) static HTTP_PROBE: Table = Table {
    what: "`http`",
    words: "GET at 127.0.0.1.",
    definition: None,
    groups: &[&[
        Row {
            name: "port",
            kind: Kind::Port,
            absent: Absent::Required,
            words: "Of 127.0.0.1.",
        },
        Row {
            name: "path",
            kind: Kind::Text,
            absent: Absent::Value("/health"),
            words: "With its query; {default} by default.",
        },
        Row {
            name: "status",
            kind: Kind::Count,
            absent: Absent::Words("200 to 399"),
            words: "The right status; any from {default} by default.",
        },
        Row {
            name: "body",
            kind: Kind::Text,
            absent: Absent::Words("any"),
            words: "The right body; {default} by default.",
        },
    ]],
    later: &[],
};

/// A health check by a connection.
pub(crate) static TCP_PROBE: Table = Table {
    what: "`tcp`",
    words: "A connection to 127.0.0.1.",
    definition: None,
    groups: &[&[Row {
        name: "port",
        kind: Kind::Port,
        absent: Absent::Required,
        words: "Of 127.0.0.1.",
    }]],
    later: &[],
};

/// The `lifecycle` of a task.
pub(crate) static LIFECYCLE: Table = Table {
    what: "`lifecycle`",
    words: "Asking the task over HTTP to end, before it is sent signals.",
    definition: Some("lifecycle"),
    groups: &[&[Row {
        name: "http",
        kind: Kind::Map(&HTTP_LIFECYCLE),
        absent: Absent::Required,
        words: "POST at 127.0.0.1.",
    }]],
    later: &[],
};

/// The requests that ask a task to end.
pub(crate) static HTTP_LIFECYCLE: Table = Table {
    what: "`http`",
    words: "POST at 127.0.0.1.",
    definition: None,
    groups: &[&[
        Row {
            name: "port",
            kind: Kind::Port,
            absent: Absent::Required,
            words: "Of 127.0.0.1.",
        },
        Row {
            name: "graceful_shutdown_endpoint",
            kind: Kind::Text,
            absent: Absent::Value("/quitquitquit"),
            words: "Asked first; {default} by default.",
        },
        Row {
            name: "shutdown_endpoint",
            kind: Kind::Text,
            absent: Absent::Value("/abortabortabort"),
            words: "Asked second; {default} by default.",
        },
        Row {
            name: "graceful_shutdown_wait",
            kind: Kind::Period,
            absent: Absent::Value("5s"),
            words: "What the first is given; {default} by default.",
        },
        Row {
            name: "shutdown_wait",
            kind: Kind::Period,
            absent: Absent::Value("5s"),
            words: "What the second is given; {default} by default.",
        },
    ]],
    later: &[],
};
