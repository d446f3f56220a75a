//! What people are told: of runs that were asked to stop, of processes that never run, of runs that
//! a signal ended; and everything in its order.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::support::{Bench, code, finish, process_of, stderr, stdout, wait_for};

fn run(bench: &Bench, task: &str, format: &str) -> (i32, String, String) {
    let file = bench.file("task.yaml", task).display().to_string();
    let output = bench.run(&["run", &file, "--id", "t", "--format", format]);
    (code(&output), stdout(&output), stderr(&output))
}

/// The lines of `text` that tell of the process called `name`.
fn lines_about<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let about = |line: &&str| {
        let mut words = line.split_whitespace();
        words.any(|word| word == name) && !line.contains("output in")
    };
    text.lines().filter(about).collect()
}

/// Each of the first three says when it is ready to be stopped.
const STOPPED: &str = "
processes:
  - {name: a, cmdline: 'trap \"exit 143\" TERM; touch up.a; while :; do sleep 0.02; done'}
  - {name: quits, stop_signal: SIGINT, cmdline: 'trap \"exit 130\" INT; touch up.b; while :; do sleep 0.02; done'}
  - {name: breaks, cmdline: 'trap \"exit 9\" TERM; touch up.c; while :; do sleep 0.02; done'}
  - {name: late, final: true, cmdline: 'exit 143'}
";

#[test]
fn a_run_that_was_asked_to_stop_is_told_to_have_stopped() {
    let bench = Bench::new();
    let file = bench.file("task.yaml", STOPPED).display().to_string();
    let arguments = ["run", &file, "--id", "t", "--format", "plain"];
    let client = bench.dewar(&arguments).spawn().expect("dewar");
    wait_for("the traps", || {
        let up = ["up.a", "up.b", "up.c"];
        up.iter()
            .all(|name| bench.sandbox("t").join(name).exists())
            .then_some(())
    });
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
    let said = stderr(&finish(client));
    let shown = stdout(&bench.run(&["status", "t"]));
    let graph = stdout(&bench.run(&["graph", "t"]));
    let explained = stdout(&bench.run(&["explain", "t"]));
    for text in [&said, &shown, &graph, &explained] {
        for (name, stopped) in [
            ("a", Some("stopped (exit 143)")),
            ("quits", Some("stopped (exit 130)")),
            ("breaks", None),
            ("late", None),
        ] {
            let lines = lines_about(text, name);
            let says = |what: &str| lines.iter().any(|line| line.contains(what));
            assert_eq!(says("FAILED"), stopped.is_none(), "{name}: {text}");
            assert_eq!(says("stopped"), stopped.is_some(), "{name}: {text}");
            assert!(says(stopped.unwrap_or("FAILED")), "{name}: {text}");
        }
    }
    assert!(!said.contains("  a: output in"), "{said}");
    assert!(said.contains("  breaks: output in"), "{said}");
    let task = bench.task("t").expect("the task");
    let run = &process_of(&task, "a")["runs"][0];
    assert_eq!(run["state"], "FAILED", "the record stays");
    assert_eq!(run["exit_code"], 143);
    assert_eq!(run["stopped"], true);
    for name in ["breaks", "late"] {
        assert!(process_of(&task, name)["runs"][0]["stopped"].is_null());
    }
}

#[test]
fn an_exit_code_of_143_without_a_request_has_failed() {
    let bench = Bench::new();
    let task = "processes: [{name: a, cmdline: 'exit 143'}]";
    let (code, _, said) = run(&bench, task, "plain");
    assert_eq!(code, 1);
    assert!(said.contains("FAILED  exit code 143"), "{said}");
    let task = bench.task("t").expect("the task");
    assert!(process_of(&task, "a")["runs"][0]["stopped"].is_null());
}

/// `never` waits in vain while the task goes on.
const SKIPPING: &str = "
max_failures: 2
processes:
  - {name: good, cmdline: 'true'}
  - {name: bad, cmdline: 'test -e heal'}
  - {name: never, after: {bad: succeeded}, cmdline: 'true'}
  - {name: behind, cmdline: 'true'}
  - {name: undo, after: {good: failed}, cmdline: 'true'}
  - {name: stays, cmdline: 'while [ ! -e go ]; do sleep 0.02; done; exit 1'}
constraints: [{order: [never, behind]}]
";

fn has_failed_and_succeeded(task: &Value) -> bool {
    process_of(task, "bad")["state"] == "FAILED" && process_of(task, "good")["state"] == "SUCCESS"
}

#[test]
fn what_never_runs_is_called_skipped() {
    let bench = Bench::new();
    let file = bench.file("task.yaml", SKIPPING).display().to_string();
    let arguments = ["run", &file, "--id", "t", "--format", "plain"];
    let client = bench.dewar(&arguments).spawn().expect("dewar");
    let task = wait_for("the failure", || {
        bench.task("t").filter(has_failed_and_succeeded)
    });
    let is_skipped = |name: &str| process_of(&task, name)["skipped"] == true;
    for name in ["never", "behind", "undo"] {
        assert!(is_skipped(name), "{name}: {task}");
        assert_eq!(process_of(&task, name)["state"], "WAITING", "{task}");
    }
    assert!(!is_skipped("stays") && !is_skipped("bad"), "{task}");
    let shown = stdout(&bench.run(&["status", "t"]));
    let explained = stdout(&bench.run(&["explain", "t"]));
    let graph = stdout(&bench.run(&["graph", "t"]));
    for text in [&shown, &explained, &graph] {
        for name in ["never", "behind", "undo"] {
            let mut lines = text.lines();
            let row = lines.find(|line| line.trim_start().starts_with(name));
            assert!(row.expect("its row").contains("skipped"), "{text}");
        }
        assert!(!text.contains("WAITING"), "{text}");
    }
    fs::write(bench.sandbox("t").join("go"), "").expect("write");
    let said = stderr(&finish(client));
    assert!(said.contains("skipped: never, behind, undo"), "{said}");
}

#[test]
fn followers_are_told_what_is_skipped_when_it_is() {
    let bench = Bench::new();
    let task = "
max_failures: 2
processes:
  - {name: bad, cmdline: 'while [ ! -e fail ]; do sleep 0.02; done; exit 1'}
  - {name: never, after: {bad: succeeded}, cmdline: 'true'}
  - {name: stays, cmdline: 'while [ ! -e go ]; do sleep 0.02; done; exit 1'}
";
    let file = bench.file("task.yaml", task).display().to_string();
    let arguments = ["run", &file, "--id", "t", "--format", "json"];
    let client = bench.dewar(&arguments).spawn().expect("dewar");
    wait_for("ACTIVE", || {
        bench.task("t").filter(|task| task["state"] == "ACTIVE")
    });
    fs::write(bench.sandbox("t").join("fail"), "").expect("write");
    wait_for("the failure", || {
        let task = bench.task("t")?;
        (process_of(&task, "bad")["state"] == "FAILED").then_some(())
    });
    fs::write(bench.sandbox("t").join("go"), "").expect("write");
    let events = stdout(&finish(client));
    let told: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|event: &Value| !event["skipped"].is_null())
        .collect();
    assert_eq!(told.len(), 1, "once: {events}");
    assert_eq!(told[0]["skipped"], serde_json::json!(["never"]));
    assert_eq!(told[0]["name"], "bad", "{events}");
}

#[test]
fn a_restart_of_what_failed_makes_others_wait_again() {
    let bench = Bench::new();
    bench.detach("t", SKIPPING);
    let task = wait_for("the failure", || {
        bench.task("t").filter(has_failed_and_succeeded)
    });
    assert_eq!(process_of(&task, "never")["skipped"], true);
    fs::write(bench.sandbox("t").join("heal"), "").expect("write");
    assert_eq!(code(&bench.run(&["restart", "t", "bad"])), 0);
    let task = wait_for("what waited in vain", || {
        let has_run = |task: &Value| process_of(task, "behind")["state"] == "SUCCESS";
        bench.task("t").filter(has_run)
    });
    assert!(process_of(&task, "never")["skipped"].is_null(), "{task}");
}

#[test]
fn when_a_task_fails_at_once_the_rest_is_skipped() {
    let bench = Bench::new();
    let task = "
processes: [{name: bad, cmdline: 'exit 1'}, {name: next, cmdline: 'true'}]
constraints: [{order: [bad, next]}]
";
    let (status, _, said) = run(&bench, task, "plain");
    assert_eq!(status, 1);
    assert!(said.contains("skipped: next"), "{said}");
    let shown = stdout(&bench.run(&["status", "t"]));
    assert!(
        !shown.contains("WAITING") && shown.contains("skipped"),
        "{shown}"
    );
    // A client that comes when it is over is told the same.
    let attached = bench.run(&["attach", "t", "--format", "plain"]);
    assert!(stderr(&attached).contains("skipped: next"));
}

const CHECKED: &str = "
max_failures: 0
processes:
  - &a {name: a0, min_duration: 0s, max_failures: 6, cmdline: 'sleep 0.1; exit 1', health: {shell: 'true', interval: 10ms}}
  - {<<: *a, name: a1}
  - {<<: *a, name: a2}
  - {<<: *a, name: a3}
";

/// Checks that no run is told to be healthy before it is told to run.
fn healthy_comes_after_running(events: &str) {
    let mut running = BTreeSet::new();
    let mut healthy = 0;
    for line in events.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let key = (event["name"].to_string(), event["run"].to_string());
        if event["event"] == "notice" && event["text"] == "healthy" {
            healthy += 1;
            assert!(running.contains(&key), "{line}\n{events}");
        }
        if event["event"] == "run" && event["state"] == "RUNNING" {
            running.insert(key);
        }
    }
    assert!(healthy > 4, "nothing was found healthy: {events}");
}

#[test]
fn a_run_is_told_to_run_before_it_is_told_to_be_healthy() {
    let bench = Bench::new();
    let (_, live, _) = run(&bench, CHECKED, "json");
    healthy_comes_after_running(&live);
    // A client that comes when all is over is told the same story.
    let after = stdout(&bench.run(&["attach", "t", "--format", "json"]));
    healthy_comes_after_running(&after);
    let task = bench.task("t").expect("the task");
    for process in task["processes"].as_array().expect("processes") {
        for run in process["runs"].as_array().expect("runs") {
            let (started, healthy) = (run["started_at"].as_str(), run["healthy_at"].as_str());
            assert!(healthy.is_none() || started <= healthy, "{run}");
        }
    }
    let plain = stderr(&bench.run(&["attach", "t", "--format", "plain"]));
    let mut running = BTreeSet::new();
    for line in plain.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, "note:", name, "healthy"] => {
                let name = name.trim_end_matches(':');
                assert!(running.contains(name), "{line}\n{plain}");
            }
            [_, name, "RUNNING", ..] => {
                running.insert(*name);
            }
            _ => {}
        }
    }
    assert_eq!(running.len(), 4, "{plain}");
}

#[test]
fn runs_that_a_signal_ended_are_bounded_by_max_runs_only() {
    for signal in ["KILL", "HUP", "PIPE", "USR1"] {
        let bench = Bench::new();
        let task = format!(
            "
processes:
  - {{name: a, max_runs: 4, min_duration: 0s, cmdline: 'kill -{signal} $$'}}
  - {{name: b, cmdline: 'exec sleep 1000'}}
"
        );
        let (status, _, said) = run(&bench, &task, "plain");
        assert_eq!(status, 1, "{said}");
        let task = bench.task("t").expect("the task");
        let runs = process_of(&task, "a")["runs"].clone();
        let runs = runs.as_array().expect("runs");
        assert_eq!(runs.len(), 4, "{task}");
        for run in runs {
            assert_eq!(run["state"], "KILLED");
            assert_eq!(run["signal"], format!("SIG{signal}"));
        }
        let explained = stdout(&bench.run(&["explain", "t", "a"]));
        for what in [
            "failed for good: 4 runs without success reach max_runs 4",
            "failed runs that count: 0 of 1; runs without success: 4 of 4",
            "is no failed run; max_runs bounds them",
        ] {
            assert!(explained.contains(what), "{what}: {explained}");
        }
    }
}

#[test]
fn a_success_in_between_does_not_reset_what_max_runs_counts() {
    let bench = Bench::new();
    let task = "
processes:
  - name: a
    daemon: true
    max_runs: 2
    min_duration: 0s
    cmdline: 'echo run >> runs; [ $(wc -l < runs) = 2 ] && exit 0; kill -KILL $$'
";
    let (status, _, said) = run(&bench, task, "plain");
    assert_eq!(status, 1, "{said}");
    let task = bench.task("t").expect("the task");
    let totals = &process_of(&task, "a")["totals"];
    assert_eq!(totals["killed"], 2, "{task}");
    assert_eq!(totals["success"], 1, "{task}");
}
