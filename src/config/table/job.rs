//! The fields of job files.

use super::row::{Absent, Kind, Row, Table};

/// A job: the whole file.
pub(crate) static JOB: Table = Table {
    what: "a job",
    words: "Instances of a task on a cluster.",
    definition: Some("job"),
    groups: &[&[
        Row {
            name: "name",
            kind: Kind::Text,
            absent: Absent::Words("the task's"),
            words: "The task's name by default.",
        },
        Row {
            name: "role",
            kind: Kind::Text,
            absent: Absent::Words("yours"),
            words: "Whose it is, and the user that runs it; {default} by default.",
        },
        Row {
            name: "environment",
            kind: Kind::Text,
            absent: Absent::Value("devel"),
            words: "{default} by default.",
        },
        Row {
            name: "instances",
            kind: Kind::Count,
            absent: Absent::Value("1"),
            words: "How many; {default} by default.",
        },
        Row {
            name: "service",
            kind: Kind::Boolean,
            absent: Absent::Value("false"),
            words: "Run again whenever it ends; else only until it ends well.",
        },
        Row {
            name: "max_task_failures",
            kind: Kind::CountOrUnlimited,
            absent: Absent::Value("1"),
            words: "Of what is no service: failures after which an instance is failed for good; -1: no limit.",
        },
        Row {
            name: "priority",
            kind: Kind::Integer,
            absent: Absent::Value("0"),
            words: "Higher ones get places first.",
        },
        Row {
            name: "constraints",
            kind: Kind::Placements,
            absent: Absent::Nothing,
            words: "By attribute of the agent: limit:N, values (a,b), or none of these (!a,b).",
        },
        Row {
            name: "update_config",
            kind: Kind::Map(&UPDATE),
            absent: Absent::Nothing,
            words: "How instances are replaced.",
        },
        Row {
            name: "partition_policy",
            kind: Kind::Map(&PARTITION),
            absent: Absent::Nothing,
            words: "What becomes of instances on unreachable agents.",
        },
        Row {
            name: "ports",
            kind: Kind::Texts,
            absent: Absent::Nothing,
            words: "More names of ports beside those that the task refers to.",
        },
        Row {
            name: "task",
            kind: Kind::TaskOrPath,
            absent: Absent::Required,
            words: "A task, or the path of a task file.",
        },
        Row {
            name: "health_check_config",
            kind: Kind::Aurora,
            absent: Absent::Nothing,
            words: "As Aurora has it; `health` in the task does more.",
        },
        Row {
            name: "lifecycle",
            kind: Kind::Aurora,
            absent: Absent::Nothing,
            words: "As Aurora has it; `lifecycle` in the task does more.",
        },
        Row {
            name: "cluster",
            kind: Kind::Text,
            absent: Absent::Nothing,
            words: "Not looked at: a job is for the cluster that it is sent to.",
        },
    ]],
    later: &[
        "cron_schedule",
        "tier",
        "sla_policy",
        "container",
        "announce",
    ],
};

/// The `update_config` of a job.
pub(crate) static UPDATE: Table = Table {
    what: "`update_config`",
    words: "How instances are replaced.",
    definition: None,
    groups: &[&[
        Row {
            name: "batch_size",
            kind: Kind::Count,
            absent: Absent::Value("1"),
            words: "Instances that are replaced at a time; {default} by default.",
        },
        Row {
            name: "watch_secs",
            kind: Kind::Seconds,
            absent: Absent::Value("45"),
            words: "An instance must run so long, healthy, before it counts; {default} by default.",
        },
        Row {
            name: "max_per_shard_failures",
            kind: Kind::Count,
            absent: Absent::Value("0"),
            words: "Failures of one instance that are forgiven; {default} by default.",
        },
        Row {
            name: "max_total_failures",
            kind: Kind::Count,
            absent: Absent::Value("0"),
            words: "Failed instances that are forgiven; {default} by default.",
        },
        Row {
            name: "rollback_on_failure",
            kind: Kind::Boolean,
            absent: Absent::Value("true"),
            words: "An update that fails is undone; {default} by default.",
        },
        Row {
            name: "wait_for_batch_completion",
            kind: Kind::Boolean,
            absent: Absent::Value("false"),
            words: "The next batch begins when the whole of this one is done; {default} by default.",
        },
    ]],
    later: &["pulse_interval_secs", "sla_aware"],
};

/// The `partition_policy` of a job.
pub(crate) static PARTITION: Table = Table {
    what: "`partition_policy`",
    words: "What becomes of instances on unreachable agents.",
    definition: None,
    groups: &[&[
        Row {
            name: "reschedule",
            kind: Kind::Boolean,
            absent: Absent::Value("true"),
            words: "Instances on unreachable agents are replaced; {default} by default.",
        },
        Row {
            name: "delay_secs",
            kind: Kind::Seconds,
            absent: Absent::Value("0"),
            words: "After so long; {default} by default.",
        },
    ]],
    later: &[],
};
