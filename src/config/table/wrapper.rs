//! The fields of what Aurora's schedulers put around a task.

use super::row::{Absent, Kind, Row, Table};

/// What a scheduler's data may have around a task.
pub(crate) static AROUND_TASK: Table = Table {
    what: "data",
    words: "A task, and what an executor needs beside it.",
    definition: None,
    groups: &[&[
        Row {
            name: "task",
            kind: Kind::TaskOrPath,
            absent: Absent::Required,
            words: "The task.",
        },
        Row {
            name: "instance",
            kind: Kind::Count,
            absent: Absent::Nothing,
            words: "The number of this instance, `{{mesos.instance}}`.",
        },
        Row {
            name: "role",
            kind: Kind::Text,
            absent: Absent::Nothing,
            words: "The user that runs the task.",
        },
        Row {
            name: "environment",
            kind: Kind::Text,
            absent: Absent::Nothing,
            words: "The environment of its job.",
        },
        Row {
            name: "health_check_config",
            kind: Kind::Aurora,
            absent: Absent::Nothing,
            words: "The health check of the task.",
        },
        Row {
            name: "lifecycle",
            kind: Kind::Aurora,
            absent: Absent::Nothing,
            words: "How to ask the task to end.",
        },
    ]],
    later: &[],
};

/// Aurora's `health_check_config` around a task.
pub(crate) static HEALTH_CHECK: Table = Table {
    what: "`health_check_config`",
    words: "How to tell whether a task works.",
    definition: None,
    groups: &[&[
        Row {
            name: "health_checker",
            kind: Kind::Map(&HEALTH_CHECKER),
            absent: Absent::Nothing,
            words: "The request or the script; without it a request.",
        },
        Row {
            name: "initial_interval_secs",
            kind: Kind::Number,
            absent: Absent::Value("15"),
            words: "Failures within this time are ignored.",
        },
        Row {
            name: "interval_secs",
            kind: Kind::Number,
            absent: Absent::Value("10"),
            words: "Between attempts.",
        },
        Row {
            name: "timeout_secs",
            kind: Kind::Number,
            absent: Absent::Value("1"),
            words: "For one attempt.",
        },
        Row {
            name: "max_consecutive_failures",
            kind: Kind::Count,
            absent: Absent::Value("0"),
            words: "One failure in a row more is the end.",
        },
        Row {
            name: "min_consecutive_successes",
            kind: Kind::Count,
            absent: Absent::Value("1"),
            words: "Make it healthy.",
        },
    ]],
    later: &[],
};

/// The `health_checker` in Aurora's `health_check_config`.
pub(crate) static HEALTH_CHECKER: Table = Table {
    what: "`health_checker`",
    words: "What is tried.",
    definition: None,
    groups: &[&[
        Row {
            name: "http",
            kind: Kind::Map(&HTTP_CHECKER),
            absent: Absent::OneOf,
            words: "GET at the port called `health`.",
        },
        Row {
            name: "shell",
            kind: Kind::Map(&SHELL_CHECKER),
            absent: Absent::OneOf,
            words: "A script.",
        },
    ]],
    later: &[],
};

/// A request in Aurora's `health_check_config`.
pub(crate) static HTTP_CHECKER: Table = Table {
    what: "`http`",
    words: "GET at the port called `health`.",
    definition: None,
    groups: &[&[
        Row {
            name: "endpoint",
            kind: Kind::Text,
            absent: Absent::Value("/health"),
            words: "The path.",
        },
        Row {
            name: "expected_response",
            kind: Kind::Text,
            absent: Absent::Value("ok"),
            words: "The right body.",
        },
        Row {
            name: "expected_response_code",
            kind: Kind::Count,
            absent: Absent::Words("200 to 399"),
            words: "The right status.",
        },
    ]],
    later: &[],
};

/// A script in Aurora's `health_check_config`.
pub(crate) static SHELL_CHECKER: Table = Table {
    what: "`shell`",
    words: "A script.",
    definition: None,
    groups: &[&[Row {
        name: "shell_command",
        kind: Kind::Text,
        absent: Absent::Required,
        words: "Exit code 0 is healthy.",
    }]],
    later: &[],
};

/// Aurora's `lifecycle` around a task.
pub(crate) static LIFECYCLE: Table = Table {
    what: "`lifecycle`",
    words: "Asking the task over HTTP to end.",
    definition: None,
    groups: &[&[Row {
        name: "http",
        kind: Kind::Map(&HTTP_LIFECYCLE),
        absent: Absent::Nothing,
        words: "POST at 127.0.0.1.",
    }]],
    later: &[],
};

/// The requests in Aurora's `lifecycle`.
pub(crate) static HTTP_LIFECYCLE: Table = Table {
    what: "`http`",
    words: "POST at 127.0.0.1.",
    definition: None,
    groups: &[&[
        Row {
            name: "port",
            kind: Kind::Text,
            absent: Absent::Value("health"),
            words: "The name of a port of the task.",
        },
        Row {
            name: "graceful_shutdown_endpoint",
            kind: Kind::Text,
            absent: Absent::Value("/quitquitquit"),
            words: "Asked first.",
        },
        Row {
            name: "shutdown_endpoint",
            kind: Kind::Text,
            absent: Absent::Value("/abortabortabort"),
            words: "Asked second.",
        },
        Row {
            name: "graceful_shutdown_wait_secs",
            kind: Kind::Number,
            absent: Absent::Value("5"),
            words: "What the first is given.",
        },
        Row {
            name: "shutdown_wait_secs",
            kind: Kind::Number,
            absent: Absent::Value("5"),
            words: "What the second is given.",
        },
    ]],
    later: &[],
};
