//! Clients that come, go, hurry, stall, or want the same thing at once.
#![allow(unsafe_code)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        net::UnixStream,
        process::{CommandExt, ExitStatusExt},
    },
    process::Stdio,
    time::Duration,
};

use nix::sys::signal::{SigHandler, Signal};

use crate::support::{Bench, code, finish, signal, wait_for};

const SLEEPER: &str = "processes: [{name: a, argv: [sleep, '1000']}]";

fn connect(bench: &Bench, id: &str) -> UnixStream {
    UnixStream::connect(bench.root().join("tasks").join(id).join("socket")).expect("connect")
}

fn descriptors(pid: u64) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("fds")
        .count()
}

#[test]
fn followers_that_leave_cost_nothing() {
    let bench = Bench::new();
    bench.detach("t", SLEEPER);
    let runner = bench.task("t").expect("the task")["runner_pid"]
        .as_u64()
        .expect("a runner");
    let before = descriptors(runner);
    for _ in 0..50 {
        let mut client = connect(&bench, "t");
        client.write_all(b"{\"do\":\"follow\"}\n").expect("write");
        let mut line = String::new();
        BufReader::new(&client).read_line(&mut line).expect("read");
        assert!(line.starts_with("{\"event\":\"status\""), "{line}");
    }
    wait_for("the clients to be forgotten", || {
        (descriptors(runner) <= before).then_some(())
    });
}

#[test]
fn more_clients_than_descriptors_keep_nobody_out_for_long() {
    let bench = Bench::new();
    let file = bench.file("t.yaml", SLEEPER).display().to_string();
    let mut command = std::process::Command::new("bash");
    let script = format!(
        "ulimit -n 32; exec {} --root {} run {file} --id t --detach",
        env!("CARGO_BIN_EXE_dewar"),
        bench.root().display()
    );
    let started = command.args(["-c", &script]).stdout(Stdio::null()).status();
    assert!(started.expect("bash").success());
    let idle: Vec<UnixStream> = (0..40).map(|_| connect(&bench, "t")).collect();
    drop(idle);
    assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
}

#[test]
fn nonsense_is_answered_and_harms_nobody() {
    let bench = Bench::new();
    bench.detach("t", SLEEPER);
    let mut client = connect(&bench, "t");
    client.write_all(b"{\"do\":\"dance\"}\n").expect("write");
    let mut line = String::new();
    BufReader::new(&client).read_line(&mut line).expect("read");
    assert!(line.contains("refused") && line.contains("dance"), "{line}");
    let mut garbage = connect(&bench, "t");
    // It is cut off somewhere on the way.
    let _ = garbage.write_all(&[b'x'; 1 << 20]);
    assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
}

#[test]
fn a_client_that_does_not_read_is_cut_off_and_the_task_goes_on() {
    let bench = Bench::new();
    let task = "processes: [{name: a, daemon: true, min_duration: 1ms, max_runs: 0, argv: ['true'], logger: {destination: none}}]";
    bench.detach("t", task);
    let mut client = connect(&bench, "t");
    client.write_all(b"{\"do\":\"follow\"}\n").expect("write");
    let runs = || bench.task("t")?["processes"][0]["totals"]["success"].as_u64();
    wait_for("many runs", || runs().filter(|runs| *runs > 300));
    assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
    let mut rest = Vec::new();
    client
        .read_to_end(&mut rest)
        .expect("the end of the conversation");
}

#[test]
fn ctrl_c_at_any_early_moment_leaves_no_task_behind() {
    let bench = Bench::new();
    let file = bench.file("t.yaml", SLEEPER).display().to_string();
    for round in 0..25u64 {
        let id = format!("t{round}");
        let mut command = bench.dewar(&["run", &file, "--id", &id]);
        // Tests in the background inherit that it is ignored, and the client would ignore it too
        // until it listens for it.
        // SAFETY: one async-signal-safe call between fork and exec.
        unsafe {
            command.pre_exec(|| {
                nix::sys::signal::signal(Signal::SIGINT, SigHandler::SigDfl)?;
                Ok(())
            });
        }
        let client = command.spawn().expect("dewar");
        std::thread::sleep(Duration::from_micros(round * 500));
        signal(u64::from(client.id()), Signal::SIGINT);
        let output = finish(client);
        let state = bench.task(&id).map(|task| task["state"].clone());
        match output.status.signal() {
            // Before anything began it is an ordinary death.
            Some(_) => assert_eq!(state, None, "round {round}"),
            None => assert_eq!(code(&output), 3, "round {round}: {state:?}"),
        }
    }
}

#[test]
fn a_process_that_writes_faster_than_it_is_shown_does_not_make_ctrl_c_deaf() {
    let bench = Bench::new();
    let task = "processes: [{name: a, cmdline: 'yes', logger: {destination: both, mode: rotate, rotate: {log_size: 1MB, backups: 2}}}]";
    let file = bench.file("t.yaml", task).display().to_string();
    let mut command = bench.dewar(&["run", &file, "--id", "t", "--format", "plain"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let client = command.spawn().expect("dewar");
    let log = bench.sandbox("t").join(".logs/a/0/stdout.1");
    wait_for("a rotation", || log.exists().then_some(()));
    signal(u64::from(client.id()), Signal::SIGINT);
    assert_eq!(code(&finish(client)), 3);
}

#[test]
fn two_tasks_that_want_the_same_id_at_once() {
    let bench = Bench::new();
    let good = bench.file("good.yaml", "processes: [{name: a, cmdline: sleep 0.2}]");
    let bad = bench.file(
        "bad.yaml",
        "processes: [{name: b, cmdline: 'sleep 0.2; exit 1'}]",
    );
    let (good, bad) = (good.display().to_string(), bad.display().to_string());
    for round in 0..10 {
        let id = format!("t{round}");
        let start = |file: &str| {
            bench
                .dewar(&["run", file, "--id", &id])
                .spawn()
                .expect("dewar")
        };
        let (first, second) = (start(&good), start(&bad));
        let codes = [code(&finish(first)), code(&finish(second))];
        // The winner's own code, and a refusal (or the winner's code when it was over already).
        let name = bench.task(&id).expect("the task")["name"].clone();
        match name.as_str() {
            Some("a") => assert!(codes == [0, 2] || codes == [0, 0], "{codes:?}"),
            _ => assert!(codes == [2, 1] || codes == [1, 1], "{codes:?}"),
        }
    }
}

#[test]
fn output_that_goes_nowhere_is_no_panic() {
    let bench = Bench::new();
    let file = bench.file("t.yaml", "processes: [{name: a, cmdline: 'true'}]");
    let file = file.display().to_string();
    for arguments in [
        vec!["validate", &file],
        vec!["inspect", &file],
        vec!["run", &file, "--id", "t"],
        vec!["status"],
    ] {
        let full = || {
            fs::File::options()
                .write(true)
                .open("/dev/full")
                .expect("/dev/full")
        };
        let mut command = bench.dewar(&arguments);
        command.stdout(full()).stderr(full());
        let status = command.status().expect("dewar");
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn nothing_of_the_caller_is_kept_by_a_detached_task() {
    let bench = Bench::new();
    let file = bench.file("t.yaml", SLEEPER).display().to_string();
    let lock = bench.path().join("lock").display().to_string();
    let script = format!(
        "exec 9>{lock}; flock 9; {} --root {} run {file} --id t --detach >/dev/null; exec 9>&-; flock -n {lock} true",
        env!("CARGO_BIN_EXE_dewar"),
        bench.root().display()
    );
    let status = std::process::Command::new("bash")
        .args(["-c", &script])
        .status();
    assert!(status.expect("bash").success(), "the lock is still held");
    let task = bench.task("t").expect("the task");
    for who in ["root_pid", "keeper_pid"] {
        let cwd = fs::read_link(format!("/proc/{}/cwd", task[who])).expect("cwd");
        assert_eq!(cwd.to_str(), Some("/"));
    }
}
