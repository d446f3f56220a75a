//! Every field of a task file, and what a version that does not know it would make of a task.
//!
//! A journal has the task as its version read it, and an older version drops the fields that it
//! does not know. So a field that restricts or obliges belongs to a feature by number
//! (`journal/features.rs`), and the header of every task that has it says so. A new field fails
//! this test until it is in one of the two lists.

use serde_json::{Value, json};

use super::{
    row::{Kind, Table},
    task::TASK,
};
use crate::{
    config::{load::Document, template::Bindings},
    engine::history::needed,
    journal::Feature,
};

/// Fields of the first versions, which every reader knows; of `resources` those that are never
/// enforced on a process.
const FIRST: &[(&str, &[&str])] = &[
    (
        "a task",
        &[
            "name",
            "processes",
            "constraints",
            "resources",
            "max_failures",
            "max_concurrency",
            "finalization_wait",
            "user",
            "health",
            "lifecycle",
        ],
    ),
    (
        "a process",
        &[
            "name",
            "cmdline",
            "argv",
            "shell",
            "max_failures",
            "max_runs",
            "daemon",
            "ephemeral",
            "final",
            "min_duration",
            "stop_timeout",
            "user",
            "umask",
            "working_dir",
            "env",
            "logger",
            "resources",
            "after",
            "health",
            "backoff",
            "timeout",
            "stop_signal",
            "env_file",
        ],
    ),
    ("a constraint", &["order"]),
    ("a logger", &["destination", "mode", "rotate"]),
    ("a rotate policy", &["log_size", "backups"]),
    ("a back-off", &["factor", "max", "jitter", "reset_after"]),
    (
        "`health`",
        &[
            "http",
            "tcp",
            "shell",
            "delay",
            "initial_interval",
            "interval",
            "timeout",
            "max_consecutive_failures",
            "min_consecutive_successes",
        ],
    ),
    ("`http`", &["port", "path", "status", "body"]),
    ("`tcp`", &["port"]),
    ("`lifecycle`", &["http"]),
    (
        "`http`",
        &[
            "port",
            "graceful_shutdown_endpoint",
            "shutdown_endpoint",
            "graceful_shutdown_wait",
            "shutdown_wait",
        ],
    ),
    ("resources", &["disk", "gpu", "best_effort"]),
];

/// Fields that restrict: the feature, and a task that has the field and no other of its kind.
fn restricting() -> Vec<(&'static str, &'static [&'static str], Feature, Value)> {
    let limited = |resources: Value| json!({"processes": [{"name": "p", "cmdline": "x", "resources": resources}]});
    let private = |volume: Value| {
        json!({
            "processes": [{"name": "p", "cmdline": "x"}],
            "isolation": {"level": "private", "without": ["ipc"]},
            "volumes": [volume],
        })
    };
    let mut all = vec![
        (
            "a task",
            &["isolation", "volumes"][..],
            Feature::Private,
            private(json!({"container_path": "/x", "tmpfs": "1MiB"})),
        ),
        (
            "isolation",
            &["level", "without"],
            Feature::Private,
            private(json!({"container_path": "/x", "tmpfs": "1MiB"})),
        ),
        (
            "a volume",
            &["container_path", "host_path", "mode", "tmpfs"],
            Feature::Private,
            private(json!({"container_path": "/x", "host_path": "/tmp", "mode": "RO"})),
        ),
        (
            "a limit",
            &["soft", "hard"],
            Feature::ProcessLimits,
            limited(json!({"rlimits": {"core": {"soft": 0, "hard": 0}}})),
        ),
    ];
    all.push((
        "a task",
        &["final_wait"],
        Feature::FinalWait,
        json!({
            "processes": [{"name": "p", "cmdline": "x"}, {"name": "f", "cmdline": "x", "final": true}],
            "final_wait": "5s",
        }),
    ));
    let group: [(&[&str], Value); 7] = [
        (&["cpu"], json!(0.5)),
        (&["ram"], json!("64MiB")),
        (&["cpu_weight"], json!(50)),
        (&["ram_high"], json!("64MiB")),
        (&["swap"], json!("64MiB")),
        (&["pids"], json!(50)),
        (&["io_weight"], json!(50)),
    ];
    for (name, value) in group {
        let task = limited(json!({name[0]: value}));
        all.push(("resources", name, Feature::Resources, task));
    }
    let own: [(&[&str], Value); 3] = [
        (&["rlimits"], json!({"core": 0})),
        (&["nice"], json!(5)),
        (&["oom_score_adj"], json!(5)),
    ];
    for (name, value) in own {
        let task = limited(json!({name[0]: value}));
        all.push(("resources", name, Feature::ProcessLimits, task));
    }
    all
}

fn tables() -> Vec<&'static Table> {
    let mut seen: Vec<&'static Table> = Vec::new();
    let mut open: Vec<&'static Table> = vec![&TASK];
    while let Some(table) = open.pop() {
        if seen.iter().any(|other| std::ptr::eq(*other, table)) {
            continue;
        }
        seen.push(table);
        open.extend(table.rows().filter_map(|row| match row.kind {
            Kind::Map(table)
            | Kind::Maps(table)
            | Kind::WordOrMap(table)
            | Kind::Rlimits(table) => Some(table),
            _ => None,
        }));
    }
    seen
}

#[test]
fn every_field_of_a_task_is_known_to_all_or_belongs_to_a_feature() {
    let restricting = restricting();
    for table in tables() {
        for name in table.names() {
            let is_first = FIRST
                .iter()
                .any(|(what, names)| *what == table.what && names.contains(&name));
            let restricts = restricting
                .iter()
                .any(|(what, names, ..)| *what == table.what && names.contains(&name));
            assert!(
                is_first != restricts,
                "`{name}` of {}: does an older version that drops it lift a restriction, or break a \
                 promise? Then it belongs to a feature of journal/features.rs",
                table.what
            );
        }
    }
}

#[test]
fn a_task_with_a_field_that_restricts_needs_its_feature() {
    for (what, names, feature, task) in restricting() {
        let document = Document::parse(&task.to_string(), true);
        let document = document.unwrap_or_else(|error| panic!("{task}: {error:?}"));
        let resolved = document.resolve(0, &Bindings::default());
        let resolved = resolved.unwrap_or_else(|error| panic!("{task}: {error:?}"));
        let needs = needed(&resolved.task);
        assert!(needs.contains(&feature), "{names:?} of {what}: {needs:?}");
    }
}
