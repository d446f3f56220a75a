//! `kill -9` of one process of ours before each of its system calls: no run doubled, none lost, no
//! orphan, every exit code kept. Checked from outside, by what the processes themselves write.
//!
//! A sample runs by default; DEWAR_CRASH=all tries every system call (see CONTRIBUTING.md).

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use crate::{
    support::tracer::{Kill, ROLES, Role, Traced, trace},
    support::{Bench, code, finish},
};

/// The task's; no other test's, as they would share the names of their cgroups.
pub fn id(bench: &Bench) -> String {
    let name = bench.path().file_name().expect("a name");
    name.to_string_lossy().into_owned()
}

/// Two chains, a retry, an exit code to keep, a finalizer. Every process writes a line when it
/// starts and one when it ends.
pub const TASK: &str = r#"
name: crash
max_failures: 0
finalization_wait: 20s
processes:
  - {name: a, min_duration: 0s, cmdline: "echo a start >> events; echo a end >> events"}
  - {name: b, min_duration: 0s, cmdline: "echo b start >> events; echo b end >> events; exit 7"}
  - name: c
    max_failures: 2
    min_duration: 0s
    cmdline: "echo c start >> events; if [ -e once ]; then echo c end >> events; exit 0; fi; touch once; echo c end >> events; exit 3"
  - {name: d, min_duration: 0s, cmdline: "echo d start >> events; sleep 0.05; echo d end >> events"}
  - {name: f, min_duration: 0s, final: true, cmdline: "echo f start >> events; echo f end >> events"}
constraints:
  - order: [a, c]
  - order: [a, d]
"#;

/// What the task may use and see: nothing but its directory, or limits and namespaces too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bounds {
    None,
    All,
}

fn task_with(bounds: Bounds) -> String {
    match bounds {
        Bounds::None => TASK.to_owned(),
        Bounds::All => TASK
            .replace("name: crash\n", "name: crash\nisolation: private\n")
            .replace("- {name: ", "- {resources: {ram: 64MiB, pids: 50}, name: ")
            .replace(
                "- name: c\n",
                "- name: c\n    resources: {ram: 64MiB, pids: 50}\n",
            ),
    }
}

/// No cgroup and no mount of the task.
fn assert_no_bounds(bench: &Bench, about: &dyn Fn() -> String) {
    let task = bench.task(&id(bench)).expect("the task");
    for group in task["cgroups"].as_array().into_iter().flatten() {
        let path = group.as_str().expect("a path");
        let is_gone = || (!std::path::Path::new(path).exists()).then_some(());
        // A group may be a moment behind its last process.
        crate::support::wait_for(&format!("{path} to go: {}", about()), is_gone);
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let path = bench.path().display().to_string();
    assert!(!mounts.contains(&path), "{mounts}{}", about());
}

pub fn expected_runs() -> BTreeMap<&'static str, Vec<Value>> {
    let codes = |codes: &[i64]| codes.iter().map(|code| Value::from(*code)).collect();
    BTreeMap::from([
        ("a", codes(&[0])),
        ("b", codes(&[7])),
        ("c", codes(&[3, 0])),
        ("d", codes(&[0])),
        ("f", codes(&[0])),
    ])
}

/// Runs the task with one kill, and checks that it made no difference.
fn check(bounds: Bounds, kill: Option<Kill>) -> Option<u64> {
    let bench = Bench::new();
    let file = bench
        .file("task.yaml", &task_with(bounds))
        .display()
        .to_string();
    let mut command = bench.dewar(&["run", &file, "--id", &id(&bench), "--format", "plain"]);
    command.stdout(std::process::Stdio::null());
    command.stderr(fs::File::create(bench.path().join("err")).expect("a file"));
    let traced = trace(command, kill);
    let about = || {
        let engine = bench
            .root()
            .join("tasks")
            .join(id(&bench))
            .join("engine.log");
        format!(
            "{kill:?}\n{}\n{}\n{}",
            fs::read_to_string(bench.path().join("err")).unwrap_or_default(),
            fs::read_to_string(engine).unwrap_or_default(),
            bench.task(&id(&bench)).unwrap_or_default()
        )
    };
    // A client that was killed: the next one sees the task to its end. When it was killed
    // before anything began, the same command begins it.
    let code = match traced.code {
        Some(code) => code,
        None => {
            let again = bench.dewar(&["run", &file, "--id", &id(&bench), "--format", "plain"]);
            let mut again = again;
            code(&finish(again.spawn().expect("dewar starts")))
        }
    };
    assert_eq!(code, 0, "exit code: {}", about());
    let events = fs::read_to_string(bench.sandbox(&id(&bench)).join("events")).unwrap_or_default();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in events.lines() {
        *counts.entry(line).or_default() += 1;
    }
    let task = bench.task(&id(&bench)).expect("the task");
    for (name, codes) in expected_runs() {
        let processes = task["processes"].as_array().expect("processes");
        let process = processes.iter().find(|process| process["name"] == name);
        let runs = process.expect("the process")["runs"].as_array().cloned();
        let runs = runs.expect("runs");
        let found: Vec<Value> = runs.iter().map(|run| run["exit_code"].clone()).collect();
        assert_eq!(found, codes, "runs of {name}: {}", about());
        for what in ["start", "end"] {
            let line = format!("{name} {what}");
            let count = counts.get(line.as_str()).copied().unwrap_or(0);
            assert_eq!(count, codes.len(), "{line}: {events}{}", about());
        }
    }
    assert_no_orphans(&bench, &about);
    assert_no_bounds(&bench, &about);
    let role = kill.map_or(Role::Client, |kill| kill.role);
    traced.killed.then(|| traced.calls[&role])
}

/// Root and keeper die in the same instant: every run begins and ends once, and its exit code is
/// kept or it is LOST.
fn check_double(bounds: Bounds, before: u64) -> bool {
    let bench = Bench::new();
    let file = bench
        .file("task.yaml", &task_with(bounds))
        .display()
        .to_string();
    let mut command = bench.dewar(&["run", &file, "--id", &id(&bench), "--format", "plain"]);
    command.stdout(std::process::Stdio::null());
    command.stderr(fs::File::create(bench.path().join("err")).expect("a file"));
    let kill = Kill {
        role: Role::Keeper,
        before,
        root_too: true,
    };
    let traced = trace(command, Some(kill));
    let about = || {
        let engine = bench
            .root()
            .join("tasks")
            .join(id(&bench))
            .join("engine.log");
        format!(
            "{kill:?}\n{}\n{}\n{}",
            fs::read_to_string(bench.path().join("err")).unwrap_or_default(),
            fs::read_to_string(engine).unwrap_or_default(),
            bench.task(&id(&bench)).unwrap_or_default()
        )
    };
    assert_eq!(traced.code, Some(0), "{}", about());
    let events = fs::read_to_string(bench.sandbox(&id(&bench)).join("events")).unwrap_or_default();
    let task = bench.task(&id(&bench)).expect("the task");
    for (name, codes) in expected_runs() {
        let processes = task["processes"].as_array().expect("processes");
        let process = processes.iter().find(|process| process["name"] == name);
        let runs = process.expect("the process")["runs"].as_array().cloned();
        let runs = runs.expect("runs");
        for what in ["start", "end"] {
            let line = format!("{name} {what}");
            let count = events.lines().filter(|other| **other == line).count();
            assert_eq!(count, runs.len(), "{line}: {events}{}", about());
        }
        for run in runs {
            let known = codes.contains(&run["exit_code"]);
            assert!(
                known || run["state"] == "LOST",
                "{run} of {name}: {}",
                about()
            );
        }
    }
    assert_no_orphans(&bench, &about);
    assert_no_bounds(&bench, &about);
    traced.killed
}

fn kill_root_and_keeper(bounds: Bounds) {
    let calls = undisturbed(bounds).calls[&Role::Keeper];
    let killed = points(bounds, calls)
        .into_iter()
        .filter(|before| check_double(bounds, *before))
        .count();
    assert!(killed >= 10, "only {killed} kills hit");
}

#[test]
fn killing_root_and_keeper_together_doubles_nothing() {
    kill_root_and_keeper(Bounds::None);
}

#[test]
fn killing_root_and_keeper_of_a_private_task_with_limits_doubles_nothing() {
    kill_root_and_keeper(Bounds::All);
}

/// Nothing of the task and nothing of ours is alive: HOME is the sandbox for the former, and the
/// latter leave within a second.
pub fn assert_no_orphans(bench: &Bench, about: &dyn Fn() -> String) {
    let sandbox = bench.sandbox(&id(bench)).canonicalize().expect("a sandbox");
    let left = crate::support::living_in(&sandbox);
    assert!(left.is_empty(), "{left:?} are left: {}", about());
    let task = bench.task(&id(bench)).expect("the task");
    let pids = ["root_pid", "keeper_pid", "runner_pid"].map(|name| task[name].as_u64());
    for pid in pids.into_iter().flatten() {
        crate::support::wait_for("our own processes to leave", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        });
    }
}

/// Which system calls to kill before, of `calls` in all.
fn points(bounds: Bounds, calls: u64) -> Vec<u64> {
    let all = std::env::var("DEWAR_CRASH").is_ok_and(|value| value == "all");
    match all {
        true => (1..=calls).collect(),
        false => {
            let sample = match bounds {
                Bounds::None => SAMPLE,
                Bounds::All => SMALL_SAMPLE,
            };
            let step = (calls / sample).max(1);
            (1..=calls).step_by(step as usize).collect()
        }
    }
}

/// Points a role in the sample.
const SAMPLE: u64 = 25;
/// The same where a run does more.
const SMALL_SAMPLE: u64 = 16;

/// The task without a kill: how many system calls there are to kill before.
fn undisturbed(bounds: Bounds) -> Traced {
    let bench = Bench::new();
    let file = bench
        .file("task.yaml", &task_with(bounds))
        .display()
        .to_string();
    let mut command = bench.dewar(&["run", &file, "--id", &id(&bench), "--format", "plain"]);
    command.stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::null());
    let traced = trace(command, None);
    assert_eq!(traced.code, Some(0));
    traced
}

fn sweep(bounds: Bounds, role: Role) {
    let traced = undisturbed(bounds);
    assert!(
        ROLES.iter().all(|role| traced.calls[role] > 10),
        "{:?}",
        traced.calls
    );
    let mut killed = 0;
    for before in points(bounds, traced.calls[&role]) {
        let kill = Kill {
            role,
            before,
            root_too: false,
        };
        killed += u64::from(check(bounds, Some(kill)).is_some());
    }
    assert!(killed >= 10, "only {killed} kills hit the {role:?}");
    println!(
        "{role:?}: {killed} kills, {} system calls",
        traced.calls[&role]
    );
}

#[test]
fn killing_the_client_changes_nothing() {
    sweep(Bounds::None, Role::Client);
}

#[test]
fn killing_the_root_changes_nothing() {
    sweep(Bounds::None, Role::Root);
}

#[test]
fn killing_the_keeper_changes_nothing() {
    sweep(Bounds::None, Role::Keeper);
}

#[test]
fn killing_the_runner_changes_nothing() {
    sweep(Bounds::None, Role::Runner);
}

#[test]
fn killing_the_client_of_a_private_task_with_limits_changes_nothing() {
    sweep(Bounds::All, Role::Client);
}

#[test]
fn killing_the_root_of_a_private_task_with_limits_changes_nothing() {
    sweep(Bounds::All, Role::Root);
}

#[test]
fn killing_the_keeper_of_a_private_task_with_limits_changes_nothing() {
    sweep(Bounds::All, Role::Keeper);
}

#[test]
fn killing_the_runner_of_a_private_task_with_limits_changes_nothing() {
    sweep(Bounds::All, Role::Runner);
}
