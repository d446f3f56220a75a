//! Task files of every kind: what is accepted, what is refused, and arbitrary input.

use proptest::prelude::*;

use super::{
    diagnostic::{Diagnostics, Severity},
    load::{Document, Resolved},
    template::Bindings,
};
use crate::task::{Period, Rotate, Task};

fn resolve(source: &str, is_json: bool) -> Result<Resolved, Diagnostics> {
    let bindings = Bindings {
        task_id: "id".to_owned(),
        user: "me".to_owned(),
        hostname: "host".to_owned(),
        ..Bindings::default()
    };
    Document::parse(source, is_json)?.resolve(0, &bindings)
}

fn task(source: &str) -> Task {
    match resolve(source, false) {
        Ok(resolved) => resolved.task,
        Err(diagnostics) => panic!("{}", diagnostics.render(source, "file", false)),
    }
}

/// The messages of all mistakes, with line and column.
fn mistakes(source: &str) -> Vec<String> {
    let Err(diagnostics) = resolve(source, false) else {
        return Vec::new();
    };
    let place = |at: usize| {
        let before = &source[..at.min(source.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("{line}:{column}")
    };
    let all = diagnostics.iter();
    all.map(|one| format!("{} {}", place(one.span.start), one.message))
        .collect()
}

#[test]
fn defaults_are_those_of_the_original() {
    let task = task("processes: [{name: a, cmdline: x}]");
    let process = &task.processes[0];
    assert_eq!(task.name, "a");
    assert_eq!((task.max_failures, task.max_concurrency), (1, 0));
    assert_eq!(task.finalization_wait, Period::from_secs(30));
    assert_eq!((process.max_failures, process.max_runs), (1, 100));
    assert_eq!(process.min_duration, Period::from_secs(5));
    assert_eq!(process.logger.rotate, Rotate::default());
}

#[test]
fn a_resolved_task_survives_its_own_json() {
    let task = task(
        "processes:
  - {name: a, cmdline: x, umask: 022, min_duration: 250ms, stop_timeout: 1m, env: {A: 1}, final: true,
     logger: {destination: both, mode: rotate, rotate: {log_size: 1MB, backups: 2}},
     resources: {cpu: 0.5, ram: 64MiB, disk: 1GB, pids: 9, swap: 0, nice: -3, best_effort: true, cpu_weight: 7,
       rlimits: {nofile: {soft: 10, hard: unlimited}, core: 0}}}
isolation: {level: private, without: [seccomp]}
volumes: [{host_path: /a, container_path: /b, mode: RW}, {tmpfs: 1MB, container_path: /c}]
health: {shell: x, initial_interval: 3s}
final_wait: 4s
constraints: [{order: [a]}]",
    );
    let json = serde_json::to_string(&task).unwrap();
    assert_eq!(serde_json::from_str::<Task>(&json).unwrap(), task);
    assert_eq!(task.processes[0].umask, Some(0o22));
    let json = serde_json::to_string(&task.as_written()).unwrap();
    let again = resolve(&json, true).expect("what inspect prints can be run");
    assert_eq!(again.task, task);
}

#[test]
fn limits_and_isolation_that_make_no_sense_are_refused() {
    let with = |resources: &str| {
        mistakes(&format!(
            "processes: [{{name: a, cmdline: x, resources: {{{resources}}}}}]"
        ))
    };
    let refused = |resources: &str, what: &str| {
        let found = with(resources);
        assert!(
            found.len() == 1 && found[0].contains(what),
            "{resources}: {found:?}"
        );
    };
    refused("ram: 1MB, ram_high: 2MB", "`ram_high` is above `ram`");
    refused("pids: 0", "`pids` of 0 lets nothing run");
    refused("cpu_weight: 0", "`cpu_weight` is out of range");
    refused("nice: 20", "`nice` is out of range");
    refused("oom_score_adj: many", "wrong type: `oom_score_adj`");
    refused("rlimits: {nofiles: 3}", "unknown limit `nofiles`");
    refused(
        "rlimits: {nofile: {soft: 3, hard: 2}}",
        "soft is above hard",
    );
    refused("rlimits: {nofile: lots}", "wrong type: `nofile`");
    refused("memory: 3", "unknown field `memory`");
    assert!(with("rlimits: {RLIMIT_CORE: infinity, stack: 8MiB}").is_empty());
    let of_task = |text: &str| mistakes(&format!("{text}\nprocesses: []"));
    let refused = |text: &str, what: &str| {
        let found = of_task(text);
        assert!(
            found.len() == 1 && found[0].contains(what),
            "{text}: {found:?}"
        );
    };
    refused("resources: {nice: 3}", "`nice` is a process' own");
    refused("isolation: privat", "unknown isolation `privat`");
    refused(
        "isolation: {level: private, without: [landlok]}",
        "unknown protection `landlok`",
    );
    refused(
        "isolation: {level: private, without: [no_new_privs]}",
        "seccomp and landlock need `no_new_privs`",
    );
    refused(
        "isolation: {level: directory, without: [pids]}",
        "takes nothing from",
    );
    let volume = |volume: &str| format!("isolation: private\nvolumes: [{volume}]");
    refused(
        &volume("{host_path: a, container_path: /b}"),
        "bad path \"a\"",
    );
    refused(
        &volume("{host_path: /a, container_path: /../b}"),
        "bad path",
    );
    refused(&volume("{host_path: /a, container_path: /}"), "bad path");
    refused(
        &volume("{container_path: /b}"),
        "either `host_path` or `tmpfs`",
    );
    refused(
        &volume("{tmpfs: 0, container_path: /b}"),
        "a tmpfs has a size",
    );
    refused(
        &volume("{host_path: /a, container_path: /b, mode: X}"),
        "unknown mode",
    );
}

#[test]
fn json_and_yaml_say_the_same() {
    let json = r#"{"processes": [{"name": "a", "cmdline": "echo \"\u00fc\" \ud83d\ude00"}]}"#;
    let yaml = "processes: [{name: a, cmdline: 'echo \"ü\" 😀'}]";
    assert_eq!(resolve(json, true).unwrap().task, task(yaml));
}

#[test]
fn anchors_aliases_and_merge_keys_work() {
    let task = task(
        "processes:
  - &base {name: a, cmdline: x, max_failures: 7}
  - {<<: *base, name: b}
",
    );
    assert_eq!(task.processes[1].max_failures, 7);
    assert_eq!(task.processes[1].name, "b");
}

#[test]
fn places_are_right_also_behind_other_alphabets() {
    let source = "name: größe\nprocesses:\n  - {name: 日本, cmdline: x, oops: 1}\n";
    assert_eq!(mistakes(source), ["3:28 unknown field `oops` in a process"]);
}

#[test]
fn stages_and_helpers_are_kept_apart() {
    let source = "processes:
  - {name: r, cmdline: x}
  - {name: f, cmdline: x, final: true}
  - {name: e, cmdline: x, ephemeral: true}
finalization_wait: 0
constraints:
  - order: [r, f]
  - order: [e, r]
  - order: []
  - order: [r, r]
";
    assert_eq!(
        mistakes(source),
        [
            "5:20 `finalization_wait` of 0 leaves final processes no time",
            "7:16 `r` and `f`: an order cannot cross regular and final processes",
            "8:16 `r` cannot wait for `e`, which is ephemeral",
            "9:12 an order needs at least one process",
            "10:16 cycle: r → r",
        ]
    );
}

#[test]
fn several_tasks_in_one_file() {
    let stream = "processes: [{name: a, cmdline: x}]\n---\nname: two\nprocesses: []\n";
    assert_eq!(
        Document::parse(stream, false).unwrap().names(),
        ["#1", "two"]
    );
    let list = "tasks: [{name: one, processes: []}, {name: two, processes: []}]";
    assert_eq!(
        Document::parse(list, false).unwrap().names(),
        ["one", "two"]
    );
    assert!(Document::parse("", false).is_err());
    assert!(Document::parse("# nothing\n", false).is_err());
}

#[test]
fn hostile_files_are_refused_and_cost_little() {
    let deep_list = "[".repeat(100_000);
    let deep_map = "a: ".repeat(10_000);
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        let list = vec![before; 9].join(",");
        bomb += &format!("a{level}: &a{level} [{list}]\n");
    }
    for source in [
        deep_list.as_str(),
        &deep_map,
        &bomb,
        "a: *a",
        "\u{feff}",
        "\t- x",
    ] {
        assert!(resolve(source, false).is_err());
        assert!(resolve(source, true).is_err());
    }
}

#[test]
fn references_that_multiply_are_refused_quickly() {
    let twice = "name: '{{name}}{{name}}'\nprocesses: []\n";
    // Both references say the same, so it is said once.
    assert_eq!(mistakes(twice).len(), 1);
    let mut doubling = "processes: []\n".to_owned();
    for level in 0..60 {
        doubling += &format!(
            "v{level}: '{{{{v{next}}}}}{{{{v{next}}}}}'\n",
            next = level + 1
        );
    }
    doubling += "v60: ''\n";
    let mistakes = mistakes(&doubling);
    assert!(
        mistakes
            .iter()
            .any(|one| one.contains("add up to too much"))
    );
    let mut many = "processes: []\n".to_owned();
    (0..20_000).for_each(|n| many += &format!("k{n}: 1\n"));
    assert!(resolve(&many, false).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(source in "\\PC{0,200}", is_json: bool) {
        if let Err(diagnostics) = resolve(&source, is_json) {
            diagnostics.render(&source, "file", true);
        }
    }

    #[test]
    fn arbitrary_changes_of_a_good_file_never_panic(
        at in 0..450usize,
        length in 0..20usize,
        with in "[-{}\\[\\]:,&*'\"#|> \\n\\t0-9a-zü]{0,12}",
        is_json: bool,
    ) {
        let good = match is_json {
            true => r#"{"name": "t", "processes": [{"name": "a", "cmdline": "echo {{thermos.ports[x]}} {{&y}}", "min_duration": 1.5, "logger": {"mode": "rotate"}}], "constraints": [{"order": ["a"]}]}"#,
            false => "name: t\nprocesses:\n  - name: a\n    cmdline: |\n      echo {{thermos.task_id}}\n    env: {A: b}\n    umask: 022\n    resources: {cpu: 0.5, ram: 64MiB, rlimits: {core: 0, nofile: {soft: 1, hard: 2}}, nice: -2}\nisolation: {level: private, without: [pids]}\nvolumes: [{host_path: /a, container_path: /b}]\nconstraints:\n  - order: [a]\nfinalization_wait: 5s\n",
        };
        let start = at.min(good.len());
        let end = (start + length).min(good.len());
        let source = format!("{}{with}{}", &good[..start], &good[end..]);
        if let Err(diagnostics) = resolve(&source, is_json) {
            prop_assert!(diagnostics.has_errors());
            diagnostics.render(&source, "file", true);
        }
    }
}

#[test]
fn what_is_kept_for_final_processes_is_a_part_of_the_whole() {
    let file = |fields: &str, is_final: bool| {
        let source = format!("processes: [{{name: a, cmdline: x, final: {is_final}}}]\n{fields}");
        resolve(&source, false)
    };
    let severities = |diagnostics: &Diagnostics| -> Vec<Severity> {
        diagnostics.iter().map(|one| one.severity).collect()
    };
    let refused = file("final_wait: 31s", true).unwrap_err();
    assert_eq!(severities(&refused), [Severity::Error]);
    let refused = file("finalization_wait: 2s\nfinal_wait: 3s", true).unwrap_err();
    assert_eq!(severities(&refused), [Severity::Error]);
    for (fields, is_final, warnings) in [
        ("final_wait: 5s", true, 0),
        ("final_wait: 0s", true, 0),
        ("final_wait: 30s", true, 1),
        ("final_wait: 5s", false, 1),
    ] {
        let resolved = file(fields, is_final).unwrap();
        assert_eq!(
            severities(&resolved.diagnostics).len(),
            warnings,
            "{fields}"
        );
        assert_eq!(severities(&resolved.hints), [], "{fields}");
    }
    let hint = file("", true).unwrap();
    assert_eq!(severities(&hint.diagnostics), []);
    assert_eq!(severities(&hint.hints), [Severity::Hint]);
    assert!(
        hint.hints
            .iter()
            .all(|one| one.message.contains("final_wait"))
    );
    assert_eq!(severities(&file("", false).unwrap().hints), []);
}
