//! What a process may ask for beyond Thermos: back-off, time-outs, files of variables, stop
//! signals; and what a person may ask for while it runs: restart, signal, explain, graph.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Bench, Known, code, finish, process_of, signal, stderr, stdout, wait_for};

/// Waits until the process is in this state, with so many runs.
fn until(bench: &Bench, name: &str, state: &str, runs: usize) -> Value {
    wait_for(&format!("{name} to be {state}"), || {
        let process = process_of(&bench.task("t")?, name);
        let is_it = process["state"] == state && process["runs"].as_array()?.len() >= runs;
        is_it.then_some(process)
    })
}

fn micros(text: &Value) -> i64 {
    let time: jiff::Timestamp = text.as_str().expect("a time").parse().expect("a time");
    time.as_microsecond()
}

#[test]
fn pauses_grow_with_failures_and_begin_anew_after_a_long_run() {
    let bench = Bench::new();
    let task = "
max_failures: 0
processes:
  - name: flappy
    max_failures: 6
    min_duration: 80ms
    backoff: {factor: 5, max: 2s, jitter: 0, reset_after: 1500ms}
    # The fifth run is a long one.
    cmdline: 'echo >> runs; test $(wc -l < runs) != 5 || sleep 1.6; exit 1'
";
    let file = bench.file("task.yaml", task).display().to_string();
    assert_eq!(code(&bench.run(&["run", &file, "--id", "t"])), 0);
    let process = process_of(&bench.task("t").expect("the task"), "flappy");
    let runs = process["runs"].as_array().expect("runs");
    let pauses: Vec<i64> = runs
        .windows(2)
        .map(|pair| (micros(&pair[1]["forked_at"]) - micros(&pair[0]["stopped_at"])) / 1000)
        .collect();
    assert_eq!(pauses.len(), 5, "{process}");
    // 80, 400, at most 2000, and 80 again after the long one; a busy machine is late, never early.
    for (pause, least) in pauses.iter().zip([80, 400, 2000, 2000, 80]) {
        assert!(*pause >= least - 1, "{pauses:?}");
    }
    assert!(pauses[4] < 2000, "{pauses:?}");
}

#[test]
fn a_run_over_its_time_is_killed_with_its_tree_and_has_failed() {
    let bench = Bench::new();
    bench.detach(
"t",
        "
max_failures: 0
processes:
  - {name: slow, timeout: 2s, max_failures: 2, min_duration: 10ms, cmdline: 'trap \"\" TERM; sleep 1000 & echo $! >> pids; wait'}
  - {name: fast, timeout: 60s, cmdline: 'true'}
  - {name: stay, cmdline: sleep 1000}
",
    );
    let slow = until(&bench, "slow", "FAILED", 2);
    for run in slow["runs"].as_array().expect("runs") {
        assert_eq!(run["reason"], "timed out after 2s");
        assert_eq!(run["state"], "FAILED");
        let took = micros(&run["stopped_at"]) - micros(&run["started_at"]);
        assert!(took >= 1_999_000, "{took}");
    }
    until(&bench, "fast", "SUCCESS", 1);
    let pids = fs::read_to_string(bench.sandbox("t").join("pids")).expect("pids");
    for pid in pids.lines() {
        wait_for("the tree to die", || {
            (!Known::new(pid).lives()).then_some(())
        });
    }
    assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
}

#[test]
fn a_runner_that_died_ends_what_is_over_its_time() {
    // On a busy machine a short time may be over before the runner is dead: then a longer one.
    let is_shown = [1, 8, 64].into_iter().any(|seconds| {
        let bench = Bench::new();
        let task = format!("processes: [{{name: slow, timeout: {seconds}s, cmdline: sleep 1000}}]");
        bench.detach("t", &task);
        let task = wait_for("the run", || {
            let is_begun = |task: &Value| task["processes"][0]["runs"][0]["started_at"].is_string();
            bench.task("t").filter(is_begun)
        });
        if let Some(runner) = task["runner_pid"].as_u64() {
            // A task that is over has none.
            let pid = nix::unistd::Pid::from_raw(runner as i32);
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        }
        let dead_at = jiff::Timestamp::now().as_microsecond();
        assert_eq!(code(&bench.run(&["wait", "t"])), 1);
        let slow = process_of(&bench.task("t").expect("the task"), "slow");
        let reason = slow["runs"][0]["reason"].as_str().unwrap_or_default();
        assert!(reason.starts_with("timed out after "), "{slow:#}");
        assert_eq!(slow["runs"].as_array().map(Vec::len), Some(1));
        micros(&slow["runs"][0]["stopped_at"]) > dead_at
    });
    assert!(
        is_shown,
        "the time was always over before the runner's death"
    );
}

#[test]
fn variables_come_from_files_beside_the_task_file_and_are_read_before_every_run() {
    let bench = Bench::new();
    bench.file("first.env", "A=one\nB='two words'\nC=from the first\n");
    let second = bench.file("second.env", "C=\"from the second\"\n");
    let task = "
max_failures: 0
processes:
  - name: shows
    env_file: [first.env, second.env]
    env: {D: own, A: mine}
    max_failures: 2
    min_duration: 100ms
    cmdline: 'echo \"$A|$B|$C|$D\" >> seen; n=$(wc -l < seen); while [ $n = 1 ] && [ ! -e go ]; do sleep 0.01; done; test $n = 2'
  - {name: missing, env_file: nowhere.env, cmdline: 'touch never'}
  - {name: broken, env_file: broken.env, cmdline: 'touch never'}
";
    bench.file("broken.env", "FINE=1\nnot fine\n");
    let file = bench.file("task.yaml", task).display().to_string();
    let run = bench
        .dewar(&["run", &file, "--id", "t"])
        .spawn()
        .expect("dewar");
    let seen = bench.sandbox("t").join("seen");
    wait_for("the first run", || seen.exists().then_some(()));
    fs::write(&second, "C=changed\n").expect("write");
    fs::write(bench.sandbox("t").join("go"), "").expect("write");
    assert_eq!(code(&finish(run)), 0);
    let seen = fs::read_to_string(seen).expect("seen");
    assert_eq!(
        seen,
        "mine|two words|from the second|own\nmine|two words|changed|own\n"
    );
    let task = bench.task("t").expect("the task");
    let reason = |name: &str| process_of(&task, name)["runs"][0]["reason"].to_string();
    assert!(reason("missing").ends_with("nowhere.env: No such file or directory\""));
    assert!(reason("broken").ends_with("broken.env:2:1: expected NAME=VALUE\""));
    assert!(!bench.sandbox("t").join("never").exists());
    let mode = |name: &str| process_of(&task, name)["runs"][0]["exit_code"].clone();
    assert_eq!(mode("missing"), Value::Null);
}

/// Needs root: it becomes another user.
#[test]
fn a_user_gets_no_variables_from_a_file_that_they_could_not_read() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    fs::set_permissions(bench.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
    let secret = bench.file("secret.env", "SECRET=yes\n");
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).expect("chmod");
    bench.file("open.env", "OPEN=yes\n");
    let task = "
user: nobody
max_failures: 0
processes:
  - {name: thief, env_file: secret.env, cmdline: 'echo $SECRET > stolen'}
  - {name: honest, env_file: open.env, cmdline: 'echo $OPEN $(id -un) > got'}
";
    let file = bench.file("task.yaml", task).display().to_string();
    assert_eq!(code(&bench.run(&["run", &file, "--id", "t"])), 0);
    let task = bench.task("t").expect("the task");
    let reason = process_of(&task, "thief")["runs"][0]["reason"].to_string();
    assert!(reason.contains("Permission denied"), "{reason}");
    assert!(!bench.sandbox("t").join("stolen").exists());
    let got = fs::read_to_string(bench.sandbox("t").join("got")).expect("got");
    assert_eq!(got, "yes nobody\n");
}

#[test]
fn each_process_is_stopped_by_its_own_signal() {
    let bench = Bench::new();
    let says = |signal: &str| {
        format!(
            "trap 'echo {signal} > $NAME; exit 0' {signal}; touch $NAME.ready; while :; do sleep 0.01; done"
        )
    };
    let task = format!(
        "
finalization_wait: 20s
processes:
  - {{name: a, env: {{NAME: a}}, stop_signal: SIGINT, cmdline: \"{}\"}}
  - {{name: b, env: {{NAME: b}}, stop_signal: quit, cmdline: \"{}\"}}
  - {{name: c, env: {{NAME: c}}, cmdline: \"{}\"}}
",
        says("INT"),
        says("QUIT"),
        says("TERM")
    );
    bench.detach("t", &task);
    let file = |name: &str| bench.sandbox("t").join(name);
    for name in ["a.ready", "b.ready", "c.ready"] {
        wait_for(name, || file(name).exists().then_some(()));
    }
    // A restart asks by the same signal.
    let restarted = bench.run(&["restart", "t", "b"]);
    assert_eq!(code(&restarted), 0, "{}", stderr(&restarted));
    assert_eq!(fs::read_to_string(file("b")).expect("b"), "QUIT\n");
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
    for (name, text) in [("a", "INT\n"), ("b", "QUIT\n"), ("c", "TERM\n")] {
        assert_eq!(fs::read_to_string(file(name)).expect(name), text);
    }
}

#[test]
fn a_restart_is_killed_and_forgiven_and_what_cannot_be_restarted_says_why() {
    let bench = Bench::new();
    bench.detach(
        "t",
        "
max_failures: 0
finalization_wait: 5s
processes:
  - {name: server, cmdline: 'echo $$ >> pids; exec sleep 1000'}
  - {name: failed, max_failures: 2, min_duration: 10ms, cmdline: 'test -e fixed'}
  - {name: waiting, after: {server: succeeded}, cmdline: 'true'}
  - {name: slow, min_duration: 1h, max_failures: 0, cmdline: 'test -e fixed'}
  - {name: last, final: true, cmdline: 'true'}
",
    );
    until(&bench, "server", "RUNNING", 1);
    until(&bench, "failed", "FAILED", 2);
    until(&bench, "slow", "WAITING", 1);
    let output = bench.run(&["restart", "t", "server"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let told = stdout(&output);
    assert!(
        told.starts_with("server  run 0  KILLED  restarted\nserver  run 1  RUNNING  pid "),
        "{told}"
    );
    let pids = fs::read_to_string(bench.sandbox("t").join("pids")).expect("pids");
    assert!(!Known::new(pids.lines().next().expect("a pid")).lives());
    fs::write(bench.sandbox("t").join("fixed"), "").expect("write");
    // One that failed for good, and one that pauses, start at once.
    for name in ["failed", "slow"] {
        let output = bench.run(&["restart", "t", name]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        until(&bench, name, "SUCCESS", 2);
    }
    for (name, why) in [
        (
            "waiting",
            "waiting cannot be restarted: it has not begun: it waits for server",
        ),
        ("last", "last cannot be restarted: it is a final process"),
        (
            "serve",
            "no process \"serve\" in this task\nhint: did you mean \"server\"?",
        ),
    ] {
        let output = bench.run(&["restart", "t", name]);
        assert_eq!(code(&output), 1);
        assert_eq!(stderr(&output), format!("error: {why}\n"));
    }
    let task = bench.task("t").expect("the task");
    assert_eq!(process_of(&task, "server")["totals"]["killed"], 1);
    assert_eq!(process_of(&task, "failed")["totals"]["failed"], 2);
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
    let over = bench.run(&["restart", "t", "server"]);
    assert_eq!(code(&over), 1);
    assert_eq!(stderr(&over), "error: task \"t\" is over: KILLED\n");
}

#[test]
fn a_stubborn_process_is_killed_for_a_restart_when_its_patience_is_over() {
    let bench = Bench::new();
    bench.detach(
"t",
        "processes: [{name: deaf, stop_timeout: 300ms, cmdline: 'trap \"\" TERM; touch deaf; while :; do sleep 0.05; done'}]",
    );
    let deaf = bench.sandbox("t").join("deaf");
    wait_for("the trap", || deaf.exists().then_some(()));
    let output = bench.run(&["restart", "t", "deaf"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let process = until(&bench, "deaf", "RUNNING", 2);
    assert_eq!(process["runs"][0]["signal"], "SIGKILL");
    assert_eq!(process["runs"][0]["reason"], "restarted");
    assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
}

#[test]
fn a_restart_survives_the_death_of_runner_and_keeper() {
    for victim in ["runner_pid", "keeper_pid"] {
        let bench = Bench::new();
        bench.detach(
"t",
            "processes: [{name: deaf, stop_timeout: 500ms, cmdline: 'trap \"\" TERM; echo >> runs; while :; do sleep 0.05; done'}]",
        );
        let runs = bench.sandbox("t").join("runs");
        wait_for("the trap", || runs.exists().then_some(()));
        let client = bench
            .dewar(&["restart", "t", "deaf"])
            .spawn()
            .expect("dewar");
        let asked = |task: &Value| task["notices"].to_string().contains("restart requested");
        let task = wait_for("the request", || bench.task("t").filter(asked));
        signal(task[victim].as_u64().expect("a pid"), Signal::SIGKILL);
        let process = until(&bench, "deaf", "RUNNING", 2);
        assert_eq!(process["runs"][0]["state"], "KILLED");
        assert_eq!(process["totals"]["killed"], 1);
        drop(finish(client));
        let lines = || fs::read_to_string(&runs).expect("runs").lines().count();
        wait_for("the second run", || (lines() == 2).then_some(()));
        assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
        assert_eq!(lines(), 2, "after the death of the {victim}");
    }
}

#[test]
fn signals_reach_the_process_and_are_remembered() {
    let bench = Bench::new();
    bench.detach(
"t",
        "
processes:
  - {name: listens, cmdline: 'trap \"echo hup >> heard\" HUP; touch ready; while :; do sleep 0.01; done'}
  - {name: done, cmdline: 'true'}
",
    );
    let sandbox = bench.sandbox("t");
    wait_for("the trap", || sandbox.join("ready").exists().then_some(()));
    until(&bench, "done", "SUCCESS", 1);
    let output = bench.run(&["signal", "t", "listens", "HUP"]);
    assert_eq!(
        (code(&output), stdout(&output)),
        (0, "listens: SIGHUP\n".to_owned())
    );
    wait_for("the signal", || {
        fs::read_to_string(sandbox.join("heard")).ok()
    });
    let task = bench.task("t").expect("the task");
    assert_eq!(process_of(&task, "listens")["state"], "RUNNING");
    assert!(task["notices"].to_string().contains("SIGHUP requested"));
    let output = bench.run(&["signal", "t", "done", "HUP"]);
    assert_eq!(
        (code(&output), stderr(&output)),
        (1, "error: done does not run\n".to_owned())
    );
    let output = bench.run(&["signal", "t", "listens", "NOPE"]);
    assert_eq!(code(&output), 2);
    assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
}

#[test]
fn a_stop_names_who_blocks_it() {
    let bench = Bench::new();
    bench.detach(
        "t",
        "
finalization_wait: 3s
processes:
  - {name: deaf, cmdline: 'trap \"\" TERM; touch deaf; sleep 1000 & wait; wait'}
  - {name: good, cmdline: 'exec sleep 1000'}
",
    );
    let deaf = bench.sandbox("t").join("deaf");
    wait_for("the trap", || deaf.exists().then_some(()));
    until(&bench, "good", "RUNNING", 1);
    let output = bench.run(&["kill", "t"]);
    assert_eq!(code(&output), 0);
    let told = stderr(&output);
    let line = told
        .lines()
        .find(|line| line.contains("has not stopped yet"))
        .expect("a line");
    assert!(
        line.contains("note: deaf: has not stopped yet: pid "),
        "{told}"
    );
    assert!(line.contains("(/bin/bash -c trap"), "{told}");
    assert!(line.contains("SIGKILL in "), "{told}");
    assert!(!told.contains("good: has not"), "{told}");
    // It is in the record too.
    let task = bench.task("t").expect("the task");
    assert!(task["notices"].to_string().contains("has not stopped yet"));
}

#[test]
fn explain_says_why_each_process_is_in_its_state() {
    let bench = Bench::new();
    bench.file("empty.env", "");
    bench.detach(
        "t",
        "
max_failures: 0
max_concurrency: 2
finalization_wait: 5s
processes:
  - {name: server, timeout: 1h, cmdline: 'exec sleep 1000'}
  - {name: flappy, min_duration: 1h, max_failures: 5, backoff: {max: 2h}, cmdline: 'exit 4'}
  - {name: broken, max_failures: 1, cmdline: 'exit 5'}
  - {name: blocked, after: {broken: succeeded, server: started}, cmdline: 'true'}
  - {name: skipped, after: {fine: failed}, cmdline: 'true'}
  - {name: fine, cmdline: 'true'}
  - {name: second, cmdline: 'exec sleep 1000'}
  - {name: third, cmdline: 'exec sleep 1000'}
  - {name: last, final: true, cmdline: 'true'}
",
    );
    until(&bench, "server", "RUNNING", 1);
    until(&bench, "broken", "FAILED", 1);
    until(&bench, "fine", "SUCCESS", 1);
    until(&bench, "flappy", "WAITING", 1);
    until(&bench, "second", "RUNNING", 1);
    let output = bench.run(&["explain", "t", "--format", "json"]);
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let why = |name: &str| {
        let mut all = all.as_array().expect("a list").iter();
        let one = all.find(|one| one["name"] == name).expect("the process");
        one["why"].as_str().expect("a reason").to_owned()
    };
    for (name, begins) in [
        ("server", "runs since "),
        ("flappy", "pauses until "),
        (
            "broken",
            "failed for good: 1 failed runs reach max_failures 1; the last one: run 0 FAILED, exit code 5",
        ),
        (
            "blocked",
            "waits for broken to succeed (it failed for good): in vain, so it is skipped",
        ),
        (
            "skipped",
            "skipped: it waited for fine to fail (it is SUCCESS)",
        ),
        ("fine", "done: run 0 SUCCESS"),
        (
            "third",
            "waits for room: 2 processes run and max_concurrency is 2",
        ),
        ("last", "final: it starts when everything else is over"),
    ] {
        assert!(why(name).starts_with(begins), "{name}: {}", why(name));
    }
    assert!(
        why("server").contains("; its time is over in "),
        "{}",
        why("server")
    );
    assert!(
        why("flappy").contains("after run 0 FAILED, exit code 4, at "),
        "{}",
        why("flappy")
    );
    let text = stdout(&bench.run(&["explain", "t", "flappy"]));
    assert!(
        text.contains("back-off: 1 runs in a row neither successful nor longer than 10m"),
        "{text}"
    );
    assert!(text.contains("failed runs that count: 1 of 5"), "{text}");
    let output = bench.run(&["explain", "t", "flapy"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("did you mean \"flappy\"?"));
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
    let text = stdout(&bench.run(&["explain", "t", "third"]));
    assert!(
        text.contains("never started: the task is KILLED since "),
        "{text}"
    );
}

const GRAPH: &str = "
name: shop
processes:
  - {name: db, cmdline: 'until [ -e migrated ]; do sleep 0.01; done', health: {shell: 'true', interval: 10ms}}
  - {name: migrate, cmdline: 'touch migrated; sleep 0.05', after: {db: healthy}}
  - {name: web, cmdline: 'until [ -e odd ]; do sleep 0.01; done; sleep 0.3'}
  - {name: 'od\"d', cmdline: 'touch odd'}
  - {name: tidy, final: true, cmdline: 'true'}
constraints: [{order: [migrate, web]}]
";

#[test]
fn graphs_of_files_and_of_tasks() {
    let bench = Bench::new();
    let file = bench.file("shop.yaml", GRAPH).display().to_string();
    let output = bench.run(&["graph", &file]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    insta::assert_snapshot!("graph_text", stdout(&output));
    let dot = stdout(&bench.run(&["graph", &file, "--format", "dot"]));
    insta::assert_snapshot!("graph_dot", dot);
    assert!(!bench.root().exists(), "something was written");
    assert_eq!(code(&bench.run(&["run", &file, "--id", "t"])), 0);
    let text = stdout(&bench.run(&["graph", "t"]));
    let path: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("critical path: "))
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(path, ["db", "migrate", "web"], "{text}");
    let dot = stdout(&bench.run(&["graph", "t", "--format", "dot"]));
    assert!(
        dot.contains("\"migrate\" -> \"web\" [penwidth=3];"),
        "{dot}"
    );
    let unknown = bench.run(&["graph", "nothing"]);
    assert_eq!(code(&unknown), 1);
    assert!(stderr(&unknown).contains("no task \"nothing\" here"));
}
