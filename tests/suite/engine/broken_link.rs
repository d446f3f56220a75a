//! The link between keeper and runner breaks: that costs a runner, and nothing else.

use std::{
    fs,
    io::Write,
    net::Shutdown,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::Path,
};

use nix::sys::{
    signal::Signal,
    socket::{SockType, getsockopt, sockopt},
};

use crate::support::{Bench, code, descriptors::copy_of, signal, wait_for};

/// Two processes, the second of which waits for the file `go`.
const WAITS: &str = "
processes:
  - {name: first, cmdline: 'echo first >> events'}
  - {name: second, cmdline: 'echo second >> events; while [ ! -e go ]; do sleep 0.05; done; echo end >> events'}
constraints: [{order: [first, second]}]
";

fn start(bench: &Bench, dewar: &mut std::process::Command) {
    let output = dewar.output().expect("dewar");
    assert_eq!(code(&output), 0);
    wait_for("the second process", || {
        let events = fs::read_to_string(bench.sandbox("t").join("events")).ok()?;
        (events == "first\nsecond\n").then_some(())
    });
    let running = |task: &serde_json::Value| task["processes"][1]["state"] == "RUNNING";
    wait_for("the exec record", || bench.task("t").filter(running));
}

/// Lets the task end, and finds that each process had one run.
fn ends_well(bench: &Bench) {
    fs::write(bench.sandbox("t").join("go"), "").expect("go");
    let output = bench.run(&["wait", "t"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), 0, "{said}");
    let task = bench.task("t").expect("the task");
    assert_eq!(task["state"], "SUCCESS", "{task}");
    for process in task["processes"].as_array().expect("processes") {
        assert_eq!(process["runs"].as_array().expect("runs").len(), 1, "{task}");
    }
    let events = fs::read_to_string(bench.sandbox("t").join("events")).expect("events");
    assert_eq!(events, "first\nsecond\nend\n");
    let log = bench.root().join("tasks/t/engine.log");
    let log = fs::read_to_string(log).unwrap_or_default();
    assert!(!log.contains("cannot be trusted"), "{log}");
}

/// The keeper and its runner.
fn pair(bench: &Bench) -> (u64, u64) {
    wait_for("keeper and runner", || {
        let task = bench.task("t")?;
        Some((task["keeper_pid"].as_u64()?, task["runner_pid"].as_u64()?))
    })
}

/// The end of the link that `of` has, by the process that made both ends.
pub fn link(of: u64, keeper: u64) -> UnixStream {
    let is_link = |fd: &OwnedFd| {
        let is_stream = getsockopt(fd, sockopt::SockType) == Ok(SockType::Stream);
        let is_bound = nix::sys::socket::getpeername::<nix::sys::socket::UnixAddr>(fd.as_raw_fd());
        is_stream
            && is_bound.is_ok()
            && getsockopt(fd, sockopt::PeerCredentials)
                .is_ok_and(|peer| peer.pid() as u64 == keeper)
    };
    let entries = fs::read_dir(format!("/proc/{of}/fd")).expect("descriptors");
    let copies = entries
        .flatten()
        .filter_map(|entry| copy_of(of, entry.file_name().to_str()?.parse().ok()?));
    let mut links: Vec<OwnedFd> = copies.filter(is_link).collect();
    assert_eq!(links.len(), 1, "sockets of {of} that may be the link");
    UnixStream::from(links.remove(0))
}

fn replaced(bench: &Bench, keeper: u64, runner: u64) {
    let now = wait_for("another runner", || {
        let task = bench.task("t")?;
        let now = task["runner_pid"].as_u64().filter(|now| *now != runner)?;
        Some((task["keeper_pid"].as_u64()?, now))
    });
    assert_eq!(now.0, keeper, "it cost the keeper");
}

fn dewar(bench: &Bench) -> std::process::Command {
    let file = bench.file("task.yaml", WAITS).display().to_string();
    bench.dewar(&["run", &file, "--id", "t", "--detach"])
}

#[test]
fn nonsense_from_the_keeper_costs_a_runner_and_nothing_else() {
    let bench = Bench::new();
    start(&bench, &mut dewar(&bench));
    let nonsense: [&[u8]; 2] = [
        // A length that cannot be.
        &[0xff; 4],
        // A message with a field that has no number.
        &[1, 0, 0, 0, 1],
    ];
    for bytes in nonsense {
        let (keeper, runner) = pair(&bench);
        let mut link = link(keeper, keeper);
        link.write_all(bytes).expect("write");
        replaced(&bench, keeper, runner);
    }
    ends_well(&bench);
}

#[test]
fn nonsense_from_the_runner_costs_that_runner_and_nothing_else() {
    let bench = Bench::new();
    start(&bench, &mut dewar(&bench));
    let nonsense: [&[u8]; 5] = [
        &[0xff; 4],
        &[1, 0, 0, 0, 1],
        // A length that can be, whose bytes never come: all that follows would be swallowed.
        &[0, 0, 0, 0x0f],
        // An answer to report 999, which was never sent.
        &[3, 0, 0, 0, 0x18, 0xe7, 7],
        // Half a message, and then the end.
        &[9, 0, 0, 0, 0x18],
    ];
    for (index, bytes) in nonsense.iter().enumerate() {
        let (keeper, runner) = pair(&bench);
        let mut link = link(runner, keeper);
        link.write_all(bytes).expect("write");
        if index + 1 == nonsense.len() {
            link.shutdown(Shutdown::Write).expect("shutdown");
        }
        replaced(&bench, keeper, runner);
    }
    ends_well(&bench);
}

#[test]
fn an_upgrade_whose_runners_talk_nonsense_is_not_used() {
    let bench = Bench::new();
    let copy = bench.path().join("dewar");
    fs::copy(env!("CARGO_BIN_EXE_dewar"), &copy).expect("a copy");
    let mut run = std::process::Command::new(&copy);
    let file = bench.file("task.yaml", WAITS);
    run.arg("--root").arg(bench.root()).arg("run").arg(file);
    run.args(["--id", "t", "--detach"]).env_remove("DEWAR_ROOT");
    start(&bench, &mut run);
    let (keeper, runner) = pair(&bench);
    let script =
        "#!/bin/bash\necho $$ >> STARTS\nprintf '\\xff\\xff\\xff\\xff' >&$2\nexec sleep 1000\n";
    let starts = bench.path().join("starts");
    let script = script.replace("STARTS", &starts.display().to_string());
    replace(&copy, &bench.file("upgrade", &script));
    signal(runner, Signal::SIGKILL);
    replaced(&bench, keeper, runner);
    ends_well(&bench);
    let starts = fs::read_to_string(starts).expect("starts");
    assert_eq!(starts.lines().count(), 2, "{starts}");
}

fn replace(program: &Path, with: &Path) {
    fs::set_permissions(with, fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::rename(with, program).expect("rename");
}
