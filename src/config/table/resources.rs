//! The fields of `resources`, of a task and of a process.

use super::row::{Absent, Kind, Row, Table};

/// What a task and a process have in common.
static USABLE: [Row; 10] = [
    Row {
        name: "cpu",
        kind: Kind::Number,
        absent: Absent::Value("0"),
        words: "Cores: 0.5 is half of one's time; {default}: no limit.",
    },
    Row {
        name: "ram",
        kind: Kind::Size,
        absent: Absent::Value("0"),
        words: "Memory; who needs more is killed. {default}: no limit.",
    },
    Row {
        name: "disk",
        kind: Kind::Size,
        absent: Absent::Value("0"),
        words: "Space in the sandbox; of a task.",
    },
    Row {
        name: "gpu",
        kind: Kind::Count,
        absent: Absent::Value("0"),
        words: "Devices; never enforced here.",
    },
    Row {
        name: "cpu_weight",
        kind: Kind::Count,
        absent: Absent::Words("100"),
        words: "The share when the CPU is short, 1 to 10000; {default} by default.",
    },
    Row {
        name: "ram_high",
        kind: Kind::Size,
        absent: Absent::Nothing,
        words: "Memory from which on it is slowed down.",
    },
    Row {
        name: "swap",
        kind: Kind::Size,
        absent: Absent::Nothing,
        words: "Swap space; 0: none.",
    },
    Row {
        name: "pids",
        kind: Kind::Count,
        absent: Absent::Nothing,
        words: "Processes and threads at a time.",
    },
    Row {
        name: "io_weight",
        kind: Kind::Count,
        absent: Absent::Words("100"),
        words: "The share when the disks are short, 1 to 10000.",
    },
    Row {
        name: "best_effort",
        kind: Kind::Boolean,
        absent: Absent::Value("false"),
        words: "What cannot be enforced is reported, not refused.",
    },
];

/// What only a process has.
pub(crate) static OF_ONE_PROCESS: [Row; 3] = [
    Row {
        name: "rlimits",
        kind: Kind::Rlimits(&RLIMIT),
        absent: Absent::Nothing,
        words: "Limits by name: a number, a size, unlimited, or {soft, hard}.",
    },
    Row {
        name: "nice",
        kind: Kind::Whole,
        absent: Absent::Nothing,
        words: "-20 (first) to 19 (last).",
    },
    Row {
        name: "oom_score_adj",
        kind: Kind::Whole,
        absent: Absent::Nothing,
        words: "-1000 (never) to 1000 (first) to be killed when memory is out.",
    },
];

/// The `resources` of a task.
pub(crate) static RESOURCES: Table = Table {
    what: "resources",
    words: "What the task as a whole may use.",
    definition: Some("resources"),
    groups: &[&USABLE],
    later: &[],
};

/// The `resources` of a process.
pub(crate) static LIMITS: Table = Table {
    what: "resources",
    words: "What a process may use.",
    definition: Some("limits"),
    groups: &[&USABLE, &OF_ONE_PROCESS],
    later: &[],
};

/// One of the `rlimits` of a process.
pub(crate) static RLIMIT: Table = Table {
    what: "a limit",
    words: "Both limits.",
    definition: None,
    groups: &[&[
        Row {
            name: "soft",
            kind: Kind::Bound,
            absent: Absent::OneOf,
            words: "What holds.",
        },
        Row {
            name: "hard",
            kind: Kind::Bound,
            absent: Absent::OneOf,
            words: "How far the process may raise it.",
        },
    ]],
    later: &[],
};
