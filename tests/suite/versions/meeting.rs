//! A program file that is one version first and another later, and the tasks that it began.
//!
//! `tests/older.sh` (which `./test` runs) builds the older binary from the repository's history.
//! Where it cannot be had, the tests that want it say so loudly and do nothing else;
//! DEWAR_OLDER=required makes that fail.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

use crate::support::{Bench, code, finish, process_of, stderr, wait_for};

const OLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/older/dewar");
const PRESENT: &str = env!("CARGO_BIN_EXE_dewar");

/// A version of dewar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Of before limits and isolation.
    Older,
    Present,
}
pub use Version::{Older, Present};

impl Version {
    fn binary(self) -> &'static Path {
        Path::new(match self {
            Older => OLDER,
            Present => PRESENT,
        })
    }
}

/// True when there is an older binary; says so when there is none.
pub fn is_there() -> bool {
    let there = Path::new(OLDER).exists();
    let required = std::env::var("DEWAR_OLDER").is_ok_and(|value| value == "required");
    assert!(there || !required, "there is no older binary: {OLDER}");
    if !there {
        eprintln!("######## SKIPPED: no older binary at {OLDER}; ./test builds it ########");
    }
    there
}

/// A file that holds a version of dewar.
pub struct Program(pub PathBuf);

impl Program {
    pub fn new(bench: &Bench, version: Version) -> Program {
        let program = Program(bench.path().join("dewar"));
        program.become_version(version);
        program
    }

    /// Replaces the file, as an upgrade does.
    pub fn become_version(&self, version: Version) {
        fs::rename(self.copy_of(version), &self.0).expect("rename");
    }

    /// Replaces the file by the beginning of this version.
    pub fn become_half_written(&self, version: Version) {
        let fresh = self.copy_of(version);
        let whole = fs::metadata(&fresh).expect("its size").len();
        // Most of a debug build is for debuggers: this much cannot even be loaded.
        let size = (whole / 8).to_string();
        tool("truncate", &["-s".as_ref(), size.as_ref(), fresh.as_ref()]);
        fs::rename(fresh, &self.0).expect("rename");
    }

    fn copy_of(&self, version: Version) -> PathBuf {
        let fresh = self.0.with_extension("new");
        tool("cp", &[version.binary().as_ref(), fresh.as_ref()]);
        fresh
    }

    /// `dewar --root ROOT ...` by this file, to its end.
    pub fn run(&self, bench: &Bench, arguments: &[&str]) -> Output {
        finish(self.start(bench, arguments))
    }

    /// `dewar --root ROOT ...` by this file.
    pub fn start(&self, bench: &Bench, arguments: &[&str]) -> Child {
        let child = Command::new(&self.0)
            .arg("--root")
            .arg(bench.root())
            .args(arguments)
            .current_dir(bench.path())
            .env_remove("DEWAR_ROOT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        child.expect("dewar starts")
    }

    /// Begins a task of this text.
    pub fn detach(&self, bench: &Bench, id: &str, task: &str) {
        let file = bench.file("task.yaml", task).display().to_string();
        let output = self.run(bench, &["run", &file, "--id", id, "--detach"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
}

/// Writes a program by another process: a child that another test forks meanwhile would hold a file
/// that is open for writing here, and nothing could execute it.
fn tool(name: &str, arguments: &[&std::ffi::OsStr]) {
    let status = Command::new(name).args(arguments).status();
    assert!(status.expect("a tool").success(), "{name}");
}

/// A pid of the task's status.
pub fn pid(bench: &Bench, id: &str, who: &str) -> u64 {
    wait_for(who, || bench.task(id)?[who].as_u64())
}

/// Kills the runner, and waits for another one: its pid.
pub fn replace_runner(bench: &Bench, id: &str) -> u64 {
    let runner = pid(bench, id, "runner_pid");
    crate::support::signal(runner, nix::sys::signal::Signal::SIGKILL);
    wait_for("another runner", || {
        let now = bench.task(id)?["runner_pid"].as_u64()?;
        (now != runner).then_some(now)
    })
}

/// Kills root, keeper and runner, and waits until none of them is seen any more.
pub fn kill_all_of_ours(bench: &Bench, id: &str) {
    let pids = ["root_pid", "keeper_pid", "runner_pid"].map(|who| pid(bench, id, who));
    crate::support::kill_at_once(&pids);
    wait_for("root and keeper to be gone", || {
        let task = bench.task(id)?;
        (task["root_pid"].is_null() && task["keeper_pid"].is_null()).then_some(())
    });
}

/// The runs of a process.
pub fn runs(bench: &Bench, id: &str, name: &str) -> Vec<Value> {
    let task = wait_for("the task's status", || bench.task(id));
    let process = process_of(&task, name);
    process["runs"].as_array().expect("runs").clone()
}

/// Waits until this run of the process has passed its gate: the run.
pub fn wait_run(bench: &Bench, id: &str, name: &str, number: usize) -> Value {
    wait_for("the run", || {
        let run = runs(bench, id, name).get(number)?.clone();
        (run["state"] == "RUNNING").then_some(run)
    })
}

/// True when the process is in a cgroup that dewar made for this task.
pub fn is_grouped(pid: &Value, id: &str) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its groups");
    // Every run may have a group of v2 that limits nothing.
    let group = format!("/dewar.{id}/");
    text.lines()
        .any(|line| line.contains(&group) && line.contains(":memory:"))
}

/// True when the process is in another pid namespace than this test.
pub fn is_private(pid: &Value) -> bool {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).expect("a namespace");
    namespace(&pid.to_string()) != namespace("self")
}
