//! The time of final processes: what is kept for them, and what is said when there was none.

use std::{fs, time::Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Bench, code, finish, signal, stderr, stdout, wait_for};

/// A process that ignores SIGTERM, and a final one that says that it ran.
fn stubborn(fields: &str) -> String {
    format!(
        "
{fields}
processes:
  - name: stubborn
    cmdline: 'trap \"\" TERM; (setsid bash -c \"trap : TERM; while :; do sleep 0.05; done\" &); touch up; while :; do sleep 0.05; done'
  - {{name: pack, final: true, cmdline: 'echo done > done'}}
"
    )
}

fn is_up(bench: &Bench) -> Option<()> {
    bench.sandbox("t").join("up").exists().then_some(())
}

fn begin(bench: &Bench, task: &str) {
    bench.detach("t", task);
    wait_for("the process", || is_up(bench));
}

fn states(task: &Value) -> Vec<&str> {
    let states = task["states"].as_array().expect("states");
    states
        .iter()
        .filter_map(|state| state["state"].as_str())
        .collect()
}

/// Kills the task, and checks that its final process ran within `seconds`.
fn final_process_runs(fields: &str, kill: &[&str], seconds: u64) {
    let bench = Bench::new();
    begin(&bench, &stubborn(fields));
    let began = Instant::now();
    let output = bench.run(&[&["kill", "t"], kill].concat());
    assert_eq!(code(&output), 0);
    let took = began.elapsed();
    let task = bench.task("t").expect("the task");
    assert_eq!(
        states(&task),
        ["ACTIVE", "CLEANING", "FINALIZING", "KILLED"],
        "{task}"
    );
    assert!(bench.sandbox("t").join("done").exists());
    assert_eq!(task["processes"][0]["runs"][0]["signal"], "SIGKILL");
    assert_eq!(task["processes"][1]["state"], "SUCCESS");
    assert!(!stderr(&output).contains("no time"), "{}", stderr(&output));
    assert!(took.as_secs() < seconds, "{took:?}");
}

#[test]
fn a_part_of_the_budget_is_kept_for_final_processes() {
    final_process_runs("finalization_wait: 61s\nfinal_wait: 60s", &[], 50);
}

#[test]
fn a_shorter_budget_keeps_the_same_share() {
    let fields = "finalization_wait: 400s\nfinal_wait: 390s";
    final_process_runs(fields, &["--wait", "40"], 30);
}

#[test]
fn final_processes_of_a_private_task_run_after_its_others_were_killed() {
    let fields = "isolation: private\nfinalization_wait: 61s\nfinal_wait: 60s";
    final_process_runs(fields, &[], 50);
}

#[test]
fn final_processes_with_limits_run_after_others_with_limits_were_killed() {
    let bench = Bench::new();
    let task = "
finalization_wait: 61s
final_wait: 60s
processes:
  - {name: a, resources: {pids: 50, best_effort: true}, cmdline: 'trap \"\" TERM; touch up; while :; do sleep 0.05; done'}
  - {name: f, final: true, resources: {pids: 50, best_effort: true}, cmdline: 'echo done > done'}
";
    begin(&bench, task);
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
    let task = bench.task("t").expect("the task");
    assert_eq!(task["processes"][1]["state"], "SUCCESS", "{task}");
}

#[test]
fn what_stops_in_time_leaves_all_the_rest() {
    let bench = Bench::new();
    let task = "
finalization_wait: 60s
final_wait: 1s
processes:
  - {name: a, cmdline: 'touch up; exec sleep 1000'}
  - {name: f, final: true, cmdline: 'sleep 1.5; echo done > done'}
";
    begin(&bench, task);
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
    assert!(bench.sandbox("t").join("done").exists());
}

#[test]
fn the_prospect_of_sigkill_is_that_of_what_runs() {
    let bench = Bench::new();
    let task = stubborn("finalization_wait: 100s\nfinal_wait: 98s");
    let file = bench.file("task.yaml", &task).display().to_string();
    let arguments = ["run", &file, "--id", "t", "--format", "plain"];
    let client = bench.dewar(&arguments).spawn().expect("dewar");
    wait_for("the process", || is_up(&bench));
    signal(u64::from(client.id()), Signal::SIGINT);
    let output = finish(client);
    assert_eq!(code(&output), 3);
    let said = stderr(&output);
    assert!(said.contains("SIGKILL in 2.0s"), "{said}");
    assert!(said.contains("has not stopped yet"), "{said}");
    let task = bench.task("t").expect("the task");
    assert_eq!(task["processes"][1]["state"], "SUCCESS", "{task}");
}

const NO_TIME: &str = "no time was left for final process pack";

#[test]
fn a_final_process_without_time_is_named_everywhere() {
    let bench = Bench::new();
    let task = stubborn("finalization_wait: 1s");
    let file = bench.file("task.yaml", &task).display().to_string();
    let arguments = ["run", &file, "--id", "t", "--format", "plain"];
    let client = bench.dewar(&arguments).spawn().expect("dewar");
    wait_for("the process", || is_up(&bench));
    let killed = bench.run(&["kill", "t"]);
    assert_eq!(code(&killed), 0);
    assert!(stderr(&killed).contains(NO_TIME), "{}", stderr(&killed));
    let ran = finish(client);
    assert_eq!(code(&ran), 3);
    let said = stderr(&ran);
    assert!(said.contains(NO_TIME), "{said}");
    assert!(said.contains("skipped: pack"), "{said}");
    let task = bench.task("t").expect("the task");
    assert_eq!(states(&task), ["ACTIVE", "CLEANING", "KILLED"], "{task}");
    assert_eq!(task["states"][2]["reason"], NO_TIME);
    assert_eq!(task["processes"][1]["state"], "WAITING");
    assert_eq!(task["processes"][1]["skipped"], true);
    let shown = stdout(&bench.run(&["status", "t"]));
    assert!(shown.contains(&format!("(killed; {NO_TIME})")), "{shown}");
    let pack = shown.lines().find(|line| line.contains("  pack "));
    assert!(pack.expect("its row").contains("skipped"), "{shown}");
    let explained = stdout(&bench.run(&["explain", "t", "pack"]));
    assert!(explained.contains(NO_TIME), "{explained}");
    assert!(explained.starts_with("pack  skipped"), "{explained}");
}

#[test]
fn killing_at_once_names_them_too() {
    let bench = Bench::new();
    begin(&bench, &stubborn("finalization_wait: 60s\nfinal_wait: 50s"));
    let killed = bench.run(&["kill", "t", "--now"]);
    assert_eq!(code(&killed), 0);
    assert!(stderr(&killed).contains(NO_TIME), "{}", stderr(&killed));
}

#[test]
fn a_final_process_that_waits_for_another_has_no_time_either() {
    let bench = Bench::new();
    let task = "
finalization_wait: 1s
processes:
  - {name: a, cmdline: 'true'}
  - {name: first, final: true, cmdline: 'sleep 1000'}
  - {name: second, final: true, cmdline: 'true'}
  - {name: aside, final: true, ephemeral: true, cmdline: 'sleep 1000'}
constraints: [{order: [first, second]}]
";
    bench.detach("t", task);
    assert_eq!(code(&bench.run(&["wait", "t"])), 0);
    let task = bench.task("t").expect("the task");
    let last = task["states"].as_array().expect("states").last();
    assert_eq!(
        last.expect("a state")["reason"],
        "no time was left for final process second",
        "{task}"
    );
}

#[test]
fn validate_says_where_it_is_missing_and_nothing_else_does() {
    let bench = Bench::new();
    let file = bench.file("task.yaml", &stubborn("name: x"));
    let file = file.display().to_string();
    let output = bench.run(&["validate", &file]);
    assert_eq!(code(&output), 0);
    let said = stderr(&output);
    assert!(said.contains("`final_wait` is missing"), "{said}");
    assert!(said.contains("`pack`"), "{said}");
    assert!(!said.contains("error"), "{said}");
    assert_eq!(stderr(&bench.run(&["inspect", &file])), "");
    let validate = |fields: &str| {
        let file = bench.file("task.yaml", &stubborn(fields));
        let output = bench.run(&["validate", &file.display().to_string()]);
        (code(&output), stderr(&output))
    };
    assert_eq!(validate("final_wait: 5s"), (0, String::new()));
    let (code, said) = validate("final_wait: 50s");
    assert_eq!(code, 2);
    assert!(said.contains("more than `finalization_wait`"), "{said}");
}

#[test]
fn what_is_kept_survives_the_death_of_the_runner() {
    let bench = Bench::new();
    begin(&bench, &stubborn("finalization_wait: 63s\nfinal_wait: 60s"));
    let client = bench.dewar(&["kill", "t"]).spawn().expect("dewar");
    let task = wait_for("CLEANING", || {
        bench.task("t").filter(|task| task["state"] == "CLEANING")
    });
    signal(
        task["runner_pid"].as_u64().expect("a runner"),
        Signal::SIGKILL,
    );
    assert_eq!(code(&finish(client)), 0);
    let done = fs::read_to_string(bench.sandbox("t").join("done"));
    assert_eq!(done.expect("it ran"), "done\n");
}
