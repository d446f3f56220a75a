//! Ends: graceful, impatient, and of those who do not want to. Nothing outlives its task.

use std::{fs, path::Path};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Bench, Known, code, finish, living_in, signal, wait_for};

/// The pid that a process of the task wrote into its sandbox.
fn pid_in(bench: &Bench, id: &str, file: &str) -> Known {
    let path = bench.sandbox(id).join(file);
    wait_for(file, || {
        let text = fs::read_to_string(&path).ok()?;
        text.ends_with('\n').then(|| Known::new(&text))
    })
}

fn states(task: &Value) -> Vec<&str> {
    let states = task["states"].as_array().expect("states");
    states
        .iter()
        .filter_map(|state| state["state"].as_str())
        .collect()
}

const ESCAPING: &str = "
finalization_wait: 2s
processes:
  - name: main
    cmdline: |
      setsid bash -c 'trap \"\" TERM; echo $$ > escaped; while :; do sleep 0.1; done' &
      (setsid bash -c 'echo $$ > twice; exec sleep 1000' &)
      echo $$ > main
      exec sleep 1000
";

#[test]
fn what_called_setsid_or_ignores_sigterm_is_gone_when_the_task_is_over() {
    let bench = Bench::new();
    bench.detach("escape", ESCAPING);
    let pids: Vec<Known> = ["main", "escaped", "twice"]
        .iter()
        .map(|name| pid_in(&bench, "escape", name))
        .collect();
    assert!(pids.iter().all(Known::lives));
    assert_eq!(code(&bench.run(&["kill", "escape"])), 0);
    assert!(!pids.iter().any(Known::lives), "{pids:?}");
    let task = bench.task("escape").expect("the task");
    assert_eq!(
        states(&task),
        ["ACTIVE", "CLEANING", "KILLED"],
        "no time was left"
    );
}

#[test]
fn killing_at_once_also_ends_what_escaped_and_what_is_stopped() {
    let bench = Bench::new();
    bench.detach("now", ESCAPING);
    let pids: Vec<Known> = ["main", "escaped", "twice"]
        .iter()
        .map(|name| pid_in(&bench, "now", name))
        .collect();
    signal(pids[0].pid.parse().expect("a pid"), Signal::SIGSTOP);
    assert_eq!(code(&bench.run(&["kill", "now", "--now"])), 0);
    assert!(!pids.iter().any(Known::lives), "{pids:?}");
}

#[test]
fn the_end_of_a_run_ends_its_session_but_not_who_left_it() {
    let bench = Bench::new();
    let task = "
processes:
  - name: first
    cmdline: |
      sleep 1000 & echo $! > inside
      setsid bash -c 'echo $$ > outside; exec sleep 1000' & sleep 0.2
  - name: second
    cmdline: 'echo ready > ready; while [ ! -e go ]; do sleep 0.02; done'
constraints: [{order: [first, second]}]
";
    bench.detach("session", task);
    pid_in(&bench, "session", "ready");
    let inside = pid_in(&bench, "session", "inside");
    let outside = pid_in(&bench, "session", "outside");
    wait_for("the session to end", || (!inside.lives()).then_some(()));
    assert!(
        outside.lives(),
        "it left the session and lives until CLEANING"
    );
    fs::write(bench.sandbox("session").join("go"), "").expect("write");
    assert_eq!(code(&bench.run(&["wait", "session"])), 0);
    assert!(!outside.lives());
}

#[test]
fn a_tree_that_forks_while_it_is_killed_does_not_get_away() {
    let bench = Bench::new();
    // Each link forks the next and leaves: a chain that runs away, bounded in number and time.
    let task = "
processes:
  - name: runaway
    cmdline: |
      cat > hop.sh <<'SH'
      n=$1; [ $n -gt 2000 ] && exit 0
      echo $$ > hop
      sleep 0.002
      setsid bash hop.sh $((n + 1)) &
      SH
      setsid bash hop.sh 0 &
      exec sleep 1000
";
    bench.detach("hop", task);
    pid_in(&bench, "hop", "hop");
    assert_eq!(code(&bench.run(&["kill", "hop", "--now"])), 0);
    assert_eq!(living_in(&bench.sandbox("hop")), [] as [u64; 0]);
}

#[test]
fn an_own_stop_timeout_ends_the_patience_early() {
    let bench = Bench::new();
    let task = "
finalization_wait: 60s
processes:
  - name: stubborn
    stop_timeout: 300ms
    cmdline: 'trap \"\" TERM; echo $$ > pid; while :; do sleep 0.05; done'
  - {name: last, final: true, cmdline: 'echo done > done'}
";
    bench.detach("stubborn", task);
    pid_in(&bench, "stubborn", "pid");
    assert_eq!(code(&bench.run(&["kill", "stubborn"])), 0);
    let task = bench.task("stubborn").expect("the task");
    assert_eq!(
        states(&task),
        ["ACTIVE", "CLEANING", "FINALIZING", "KILLED"]
    );
    assert_eq!(task["processes"][0]["runs"][0]["signal"], "SIGKILL");
    assert!(bench.sandbox("stubborn").join("done").exists());
}

#[test]
fn ctrl_c_stops_gracefully_and_twice_at_once() {
    let bench = Bench::new();
    let task = "
finalization_wait: 60s
processes:
  - {name: a, cmdline: 'trap \"\" TERM; echo $$ > pid; while :; do sleep 0.05; done'}
  - {name: f, final: true, cmdline: 'true'}
";
    let file = bench.file("task.yaml", task).display().to_string();
    let arguments = ["run", &file, "--id", "t", "--format", "plain"];
    let client = bench.dewar(&arguments).spawn().expect("dewar");
    pid_in(&bench, "t", "pid");
    signal(u64::from(client.id()), Signal::SIGINT);
    wait_for("CLEANING", || {
        bench.task("t").filter(|task| task["state"] == "CLEANING")
    });
    signal(u64::from(client.id()), Signal::SIGTERM);
    let output = finish(client);
    assert_eq!(code(&output), 3);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("stopping: a (pid "), "{text}");
    assert!(text.contains("SIGKILL in 60.0s"), "{text}");
    assert!(text.contains("once more to kill at once"), "{text}");
}

#[test]
fn a_client_that_is_killed_kills_nothing_and_attach_finds_the_task() {
    let bench = Bench::new();
    let task = "processes: [{name: a, cmdline: 'echo $$ > pid; while [ ! -e go ]; do sleep 0.02; done; exit 4'}]";
    let file = bench.file("task.yaml", task).display().to_string();
    let arguments = ["run", &file, "--id", "t", "--format", "plain"];
    let client = bench.dewar(&arguments).spawn().expect("dewar");
    let pid = pid_in(&bench, "t", "pid");
    signal(u64::from(client.id()), Signal::SIGKILL);
    finish(client);
    assert!(pid.lives());
    let attached = bench
        .dewar(&["attach", "t", "--format", "plain"])
        .spawn()
        .expect("dewar");
    fs::write(bench.sandbox("t").join("go"), "").expect("write");
    assert_eq!(code(&finish(attached)), 1);
    assert_eq!(code(&bench.run(&["attach", "t"])), 1);
    assert_eq!(code(&bench.run(&["wait", "t"])), 1);
    let again = bench.run(&["kill", "t"]);
    assert_eq!(code(&again), 1);
    assert!(String::from_utf8_lossy(&again.stderr).contains("is over: FAILED"));
}

#[test]
fn root_keeper_and_runner_ignore_sigterm_and_sighup() {
    let bench = Bench::new();
    bench.detach(
        "t",
        "processes: [{name: a, cmdline: 'while [ ! -e go ]; do sleep 0.02; done'}]",
    );
    let task = bench.task("t").expect("the task");
    for who in ["root_pid", "keeper_pid", "runner_pid"] {
        for name in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
            signal(task[who].as_u64().expect("a pid"), name);
        }
    }
    fs::write(bench.sandbox("t").join("go"), "").expect("write");
    assert_eq!(code(&bench.run(&["wait", "t"])), 0);
    let after = bench.task("t").expect("the task");
    assert_eq!(
        after["processes"][0]["runs"]
            .as_array()
            .expect("runs")
            .len(),
        1
    );
}

#[test]
fn two_that_take_up_the_same_task_double_nothing() {
    let bench = Bench::new();
    let task = "processes: [{name: a, min_duration: 0, cmdline: 'echo start >> events; while [ ! -e go ]; do sleep 0.02; done; exit 0'}]";
    bench.detach("t", task);
    wait_for("the start", || {
        bench.sandbox("t").join("events").exists().then_some(())
    });
    let running = |task: &Value| task["processes"][0]["state"] == "RUNNING";
    let before = wait_for("the exec record", || bench.task("t").filter(running));
    crate::support::kill_at_once(
        &["root_pid", "keeper_pid"].map(|who| before[who].as_u64().expect("a pid")),
    );
    let attach = || {
        bench
            .dewar(&["attach", "t", "--format", "plain"])
            .spawn()
            .expect("dewar")
    };
    let clients: Vec<_> = (0..4).map(|_| attach()).collect();
    wait_for("the takeover", || {
        let task = bench.task("t")?;
        let keeper = task["keeper_pid"].as_u64()?;
        (Some(keeper) != before["keeper_pid"].as_u64()).then_some(())
    });
    fs::write(bench.sandbox("t").join("go"), "").expect("write");
    for client in clients {
        let output = finish(client);
        assert_eq!(
            code(&output),
            0,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let task = bench.task("t").expect("the task");
    let runs = task["processes"][0]["runs"].as_array().expect("runs");
    let events = fs::read_to_string(bench.sandbox("t").join("events")).expect("events");
    // On a kernel that does not tell exit codes of strangers the run is LOST and retried.
    assert_eq!(events.lines().count(), runs.len(), "{task}");
    assert_eq!(runs.last().expect("a run")["state"], "SUCCESS");
}

#[test]
fn a_pid_that_was_reused_is_not_signalled() {
    let bench = Bench::new();
    bench.detach(
        "t",
        "processes: [{name: a, min_duration: 60s, cmdline: 'echo $$ > pid; exec sleep 1000'}]",
    );
    let pid = pid_in(&bench, "t", "pid").pid;
    let before = wait_for("the exec record", || {
        bench
            .task("t")
            .filter(|task| task["processes"][0]["state"] == "RUNNING")
    });
    crate::support::kill_at_once(
        &["root_pid", "keeper_pid"].map(|who| before[who].as_u64().expect("a pid")),
    );
    signal(pid.parse().expect("a pid"), Signal::SIGKILL);
    // Another process gets the very same pid. Needs root.
    wait_for("the pid to be free", || {
        (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
    let number: u32 = pid.parse().expect("a pid");
    let mut stranger = None;
    for _ in 0..200 {
        fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).expect("root");
        let child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("sleep");
        if child.id() == number {
            stranger = Some(child);
            break;
        }
        let mut child = child;
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    let mut stranger = stranger.expect("the same pid again");
    assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
    let task = bench.task("t").expect("the task");
    assert_eq!(task["processes"][0]["runs"][0]["state"], "LOST");
    assert!(
        stranger.try_wait().expect("wait").is_none(),
        "a stranger was killed"
    );
    stranger.kill().expect("kill");
    stranger.wait().expect("wait");
}
