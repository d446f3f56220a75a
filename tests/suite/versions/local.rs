//! Two versions meet over a task of this machine: an upgrade, and the way back. They need root.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    support::{Bench, Known, code, finish, kill_at_once, signal, stderr, wait_for},
    versions::meeting::{
        Older, Present, Program, is_grouped, is_private, is_there, kill_all_of_ours, pid,
        replace_runner, runs, wait_run,
    },
};

/// A process with limits, that may be restarted.
const LIMITED: &str = "
finalization_wait: 2s
processes:
  - {name: p, resources: {ram: 64MiB, cpu: 0.5}, cmdline: 'sleep 1000'}
";
const PRIVATE: &str = "
finalization_wait: 2s
isolation: private
processes: [{name: p, cmdline: 'sleep 1000'}]
";
const PLAIN: &str = "
finalization_wait: 2s
processes: [{name: p, cmdline: 'sleep 1000'}]
";

/// An id that no other test's groups have.
fn id(name: &str) -> String {
    format!("versions-{name}-{}", std::process::id())
}

fn restart(program: &Program, bench: &Bench, id: &str) -> Value {
    let output = program.run(bench, &["restart", id, "p"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    wait_run(bench, id, "p", 1)
}

/// Nothing of the task is left when it has been killed.
fn ends(bench: &Bench, id: &str) {
    let output = bench.run(&["kill", id]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let task = bench.task(id).expect("the task");
    assert_eq!(task["state"], "KILLED", "{task}");
    for group in task["cgroups"].as_array().into_iter().flatten() {
        let path = group.as_str().expect("a path").to_owned();
        wait_for("the group's end", || {
            (!std::path::Path::new(&path).exists()).then_some(())
        });
    }
}

fn notices(bench: &Bench, id: &str) -> String {
    bench.task(id).expect("the task")["notices"].to_string()
}

/// What the runner is made of.
fn image(bench: &Bench, id: &str) -> String {
    let runner = pid(bench, id, "runner_pid");
    let exe = fs::read_link(format!("/proc/{runner}/exe")).expect("its image");
    exe.display().to_string()
}

#[test]
fn an_older_runner_is_not_used_for_a_task_that_it_would_run_bare() {
    if !is_there() {
        return;
    }
    for (name, task) in [("limited", LIMITED), ("private", PRIVATE)] {
        let is_held = |pid: &Value, id: &str| match name {
            "limited" => is_grouped(pid, id),
            _ => is_private(pid),
        };
        let bench = Bench::new();
        let program = Program::new(&bench, Present);
        let id = id(name);
        program.detach(&bench, &id, task);
        assert!(is_held(&wait_run(&bench, &id, "p", 0)["pid"], &id));
        program.become_version(Older);
        let keeper = pid(&bench, &id, "keeper_pid");
        replace_runner(&bench, &id);
        let run = restart(&program, &bench, &id);
        assert!(is_held(&run["pid"], &id), "its second run is bare");
        assert!(image(&bench, &id).ends_with("(deleted)"));
        assert_eq!(pid(&bench, &id, "keeper_pid"), keeper);
        ends(&bench, &id);
    }
}

#[test]
fn an_older_runner_is_used_for_a_task_that_it_understands() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    let program = Program::new(&bench, Present);
    program.detach(&bench, "t", PLAIN);
    wait_run(&bench, "t", "p", 0);
    program.become_version(Older);
    replace_runner(&bench, "t");
    restart(&program, &bench, "t");
    assert_eq!(image(&bench, "t"), program.0.display().to_string());
    ends(&bench, "t");
}

#[test]
fn an_older_take_up_of_a_task_that_is_held_to_something_is_refused_and_touches_nothing() {
    if !is_there() {
        return;
    }
    for (name, task) in [("limited", LIMITED), ("private", PRIVATE)] {
        let bench = Bench::new();
        let program = Program::new(&bench, Present);
        let id = id(&format!("taken-{name}"));
        program.detach(&bench, &id, task);
        let run = wait_run(&bench, &id, "p", 0);
        let process = Known::new(&run["pid"].to_string());
        kill_all_of_ours(&bench, &id);
        program.become_version(Older);
        for words in [&["kill", &id][..], &["attach", &id], &["wait", &id]] {
            let output = program.run(&bench, words);
            assert_ne!(code(&output), 0, "{words:?} took it up");
            let said = stderr(&output);
            assert!(said.contains("cannot open live"), "{said}");
            assert!(process.lives(), "{words:?} killed a process");
        }
        let output = program.run(&bench, &["status", &id, "--format", "json"]);
        let shown: Value = serde_json::from_slice(&output.stdout).expect("a status");
        assert_eq!(shown["tasks"][0]["state"], "ACTIVE", "{shown}");
        program.become_version(Present);
        ends(&bench, &id);
        assert!(!process.lives());
    }
}

#[test]
fn an_older_take_up_of_a_plain_task_goes_on() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    let program = Program::new(&bench, Present);
    program.detach(&bench, "t", PLAIN);
    let run = wait_run(&bench, "t", "p", 0);
    kill_all_of_ours(&bench, "t");
    program.become_version(Older);
    let output = program.run(&bench, &["kill", "t"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(!Known::new(&run["pid"].to_string()).lives());
}

/// The older version had only these resources, and recorded them.
#[test]
fn what_an_older_version_only_recorded_is_not_enforced_afterwards() {
    if !is_there() {
        return;
    }
    // It uses more than what was recorded: held to it, it would be killed for memory.
    let task = "
finalization_wait: 2s
processes:
  - name: p
    resources: {ram: 8MiB, cpu: 0.01}
    cmdline: 'x=$(head -c 50000000 /dev/zero | tr \"\\0\" x); sleep 1000'
";
    // A new runner of the old keeper, and a new keeper.
    for taken_up in [false, true] {
        let bench = Bench::new();
        let program = Program::new(&bench, Older);
        let id = id(&format!("recorded-{taken_up}"));
        program.detach(&bench, &id, task);
        let first = wait_run(&bench, &id, "p", 0);
        program.become_version(Present);
        match taken_up {
            true => {
                kill_all_of_ours(&bench, &id);
                // The client takes it up.
                let file = bench.path().join("task.yaml").display().to_string();
                let output = bench.run(&["run", &file, "--id", &id, "--detach"]);
                assert_eq!(code(&output), 0, "{}", stderr(&output));
            }
            false => {
                replace_runner(&bench, &id);
            }
        }
        let run = restart(&program, &bench, &id);
        assert!(!is_grouped(&run["pid"], &id), "it is limited now");
        let said = notices(&bench, &id);
        assert!(said.contains("only recorded them"), "{said}");
        let task = bench.task(&id).expect("the task");
        assert_eq!(task["state"], "ACTIVE", "{task}");
        assert_eq!(runs(&bench, &id, "p")[0]["state"], "KILLED", "{first}");
        ends(&bench, &id);
    }
}

#[test]
fn a_task_passes_between_versions_and_loses_nothing() {
    if !is_there() {
        return;
    }
    let task = "
finalization_wait: 10s
processes:
  - {name: p, daemon: true, min_duration: 0.01, cmdline: 'echo run >> ../sandbox/ran; sleep 0.01'}
  - {name: last, final: true, cmdline: 'touch finalized'}
";
    let bench = Bench::new();
    let program = Program::new(&bench, Older);
    program.detach(&bench, "t", task);
    for version in [Present, Older, Present] {
        program.become_version(version);
        let before = bench.task("t").expect("the task");
        let count = |task: &Value| task["processes"][0]["totals"]["success"].as_u64();
        replace_runner(&bench, "t");
        wait_for("more runs", || {
            (count(&bench.task("t")?) > count(&before)).then_some(())
        });
        kill_all_of_ours(&bench, "t");
        let output = program.run(&bench, &["status", "t"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let attached = bench.file("task.yaml", task).display().to_string();
        let output = program.run(&bench, &["run", &attached, "--id", "t", "--detach"]);
        assert_eq!(code(&output), 0, "{version:?}: {}", stderr(&output));
    }
    let output = program.run(&bench, &["kill", "t"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(bench.sandbox("t").join("finalized").exists());
    let task = bench.task("t").expect("the task");
    let totals = &task["processes"][0]["totals"];
    let ran = fs::read_to_string(bench.sandbox("t").join("ran")).expect("what ran");
    let recorded: u64 = ["success", "failed", "killed", "lost"]
        .iter()
        .filter_map(|outcome| totals[outcome].as_u64())
        .sum();
    let ran = ran.lines().count() as u64;
    // A run that was killed at its gate, or just behind it, wrote nothing.
    let unwritten = recorded - totals["success"].as_u64().expect("a number");
    assert!(
        ran <= recorded && ran + unwritten >= recorded,
        "{totals} {ran}"
    );
}

#[test]
fn a_half_written_program_does_not_keep_a_task_from_its_end() {
    let bench = Bench::new();
    let program = Program::new(&bench, Present);
    program.detach(&bench, "t", PLAIN);
    wait_run(&bench, "t", "p", 0);
    program.become_half_written(Present);
    signal(pid(&bench, "t", "runner_pid"), Signal::SIGKILL);
    ends(&bench, "t");
}

#[test]
fn a_client_whose_file_is_half_written_takes_a_task_up_by_its_present_image() {
    let bench = Bench::new();
    let program = Program::new(&bench, Present);
    program.detach(&bench, "t", PLAIN);
    let run = wait_run(&bench, "t", "p", 0);
    let waits = program.start(&bench, &["wait", "t"]);
    wait_for("the client to follow", || {
        let fds = fs::read_dir(format!("/proc/{}/fd", waits.id())).ok()?;
        let mut targets = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        targets.find(|target| target.to_string_lossy().starts_with("socket:"))
    });
    program.become_half_written(Present);
    kill_at_once(&["root_pid", "keeper_pid", "runner_pid"].map(|who| pid(&bench, "t", who)));
    // The client takes it up.
    let keeper = pid(&bench, "t", "keeper_pid");
    assert_ne!(serde_json::json!(keeper), run["pid"]);
    ends(&bench, "t");
    assert_eq!(code(&finish(waits)), 3);
}
