//! What dewar or the machine has too little of is no failure of a process: its launch waits, and
//! begins once.
#![allow(unsafe_code)]

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    crash::id,
    support::{
        Bench, code, finish, process_of, signal,
        tracer::{Fault, Role, trace_fault},
        wait_for,
    },
};

/// The second process begins when the first one is let go. Both may fail once.
const TASK: &str = "
finalization_wait: 20s
processes:
  - {name: first, cmdline: 'while [ ! -e go ]; do sleep 0.02; done'}
  - {name: main, min_duration: 0s, cmdline: 'echo ran >> ran'}
constraints: [{order: [first, main]}]
";

/// A task whose keeper has no descriptor left for the launch of its second process, which waits.
struct Short {
    bench: Bench,
    keeper: u64,
    limits: libc::rlimit,
}

impl Short {
    fn begin(task: &str) -> Short {
        let bench = Bench::new();
        bench.detach("t", task);
        wait_for("the exec record", || {
            (process_of(&bench.task("t")?, "first")["state"] == "RUNNING").then_some(())
        });
        let keeper = bench.task("t").expect("it")["keeper_pid"].as_u64();
        let keeper = keeper.expect("a keeper");
        // The standard ones are all open: no other can be opened.
        let limits = limit(keeper, None);
        let few = libc::rlimit {
            rlim_cur: 3,
            ..limits
        };
        limit(keeper, Some(few));
        fs::write(bench.sandbox("t").join("go"), "").expect("a file");
        let short = Short {
            bench,
            keeper,
            limits,
        };
        wait_for("a notice", || (short.notices() > 0).then_some(()));
        short
    }

    fn is_over(&self) {
        limit(self.keeper, Some(self.limits));
    }

    fn status(&self) -> Value {
        self.bench.task("t").expect("the task")
    }

    fn main(&self) -> Value {
        process_of(&self.status(), "main")
    }

    /// How often the shortage was told.
    fn notices(&self) -> usize {
        let status = self.status();
        let notices = status["notices"].as_array().expect("notices");
        let about = |notice: &&Value| {
            let text = notice["text"].as_str().unwrap_or_default();
            text.contains("counts for nothing")
        };
        notices.iter().filter(about).count()
    }

    fn ran(&self) -> String {
        fs::read_to_string(self.bench.sandbox("t").join("ran")).unwrap_or_default()
    }

    /// Ends well, and the process ran once.
    fn ends_well(&self) {
        assert_eq!(
            code(&self.bench.run(&["wait", "t"])),
            0,
            "{:#}",
            self.status()
        );
        let main = self.main();
        assert_eq!(main["runs"].as_array().expect("runs").len(), 1, "{main:#}");
        assert_eq!(main["totals"]["failed"], 0);
        assert_eq!(self.ran(), "ran\n");
    }
}

/// The limit of open files of a process, before it is set to `new`.
fn limit(pid: u64, new: Option<libc::rlimit>) -> libc::rlimit {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both point to a limit, or nowhere.
    let set = unsafe { libc::prlimit(pid as i32, libc::RLIMIT_NOFILE, new, &raw mut old) };
    assert_eq!(set, 0, "prlimit");
    old
}

#[test]
fn a_launch_without_a_descriptor_waits_and_counts_for_nothing() {
    let short = Short::begin(TASK);
    let main = short.main();
    assert_eq!(main["state"], "WAITING", "{main:#}");
    assert_eq!(main["runs"].as_array().expect("runs").len(), 0, "{main:#}");
    let told = short.status()["notices"].to_string();
    assert!(
        told.contains("cannot be launched yet: ") && told.contains("Too many open files"),
        "{told}"
    );
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(short.notices(), 1, "it is told once");
    short.is_over();
    short.ends_well();
}

#[test]
fn a_launch_that_waits_is_not_doubled_by_a_new_runner_or_keeper() {
    for role in ["runner_pid", "keeper_pid"] {
        let short = Short::begin(TASK);
        let status = short.status();
        signal(status[role].as_u64().expect("a pid"), Signal::SIGKILL);
        if role == "runner_pid" {
            // The keeper can start another one only now.
            short.is_over();
        }
        short.ends_well();
    }
}

#[test]
fn a_launch_that_waits_is_forgotten_by_a_kill() {
    for arguments in [&["kill", "t"][..], &["kill", "--now", "t"]] {
        let short = Short::begin(TASK);
        let killed = short.bench.run(arguments);
        assert_eq!(code(&killed), 0);
        assert_eq!(short.status()["state"], "KILLED");
        assert_eq!(short.ran(), "");
        assert_eq!(short.main()["runs"].as_array().expect("runs").len(), 0);
    }
}

#[test]
fn a_health_check_without_a_descriptor_has_not_failed() {
    let task = "
processes:
  - name: first
    cmdline: 'while [ ! -e end ]; do sleep 0.02; done'
    health: {shell: 'if [ -e go ]; then touch checked; fi', interval: 100ms, initial_interval: 0s, max_consecutive_failures: 0}
";
    let short = Short::begin(task);
    let told = short.status()["notices"].to_string();
    assert!(
        told.contains("a health check cannot be started yet"),
        "{told}"
    );
    short.is_over();
    let checked = short.bench.sandbox("t").join("checked");
    wait_for("a check", || checked.exists().then_some(()));
    fs::write(short.bench.sandbox("t").join("end"), "").expect("a file");
    assert_eq!(code(&short.bench.run(&["wait", "t"])), 0);
    let told = short.status()["notices"].to_string();
    assert!(!told.contains("unhealthy"), "{told}");
}

/// A machine without a pid for a while.
#[test]
fn a_launch_that_cannot_be_forked_waits_and_counts_for_nothing() {
    let bench = Bench::new();
    let task =
        "processes:\n  - {name: main, min_duration: 0s, cmdline: 'echo ran >> ran; exit 0'}\n";
    let file = bench.file("t.yaml", task).display().to_string();
    let mut command = bench.dewar(&["run", &file, "--id", &id(&bench)]);
    command.stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::null());
    let fault = Fault {
        role: Role::Keeper,
        // The first is the runner's, then the journal's thread is made.
        calls: &[libc::SYS_clone, libc::SYS_clone3],
        from: 3,
        times: 7,
        errno: libc::EAGAIN,
    };
    let traced = trace_fault(command, fault);
    assert_eq!((traced.code, traced.faults), (Some(0), 7));
    let status = bench.task(&id(&bench)).expect("the task");
    let main = process_of(&status, "main");
    assert_eq!(main["runs"].as_array().expect("runs").len(), 1, "{main:#}");
    let notices = status["notices"].to_string();
    assert!(
        notices.contains("Resource temporarily unavailable"),
        "{notices}"
    );
    let ran = fs::read_to_string(bench.sandbox(&id(&bench)).join("ran")).unwrap_or_default();
    assert_eq!(ran, "ran\n");
}

/// What the user's own limit causes stays a failure.
#[test]
fn a_users_own_limit_of_processes_is_his_failure() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let bench = Bench::new();
    // One that may have no process, and has one.
    let task = "
user: nobody
max_failures: 1
processes:
  - {name: first, cmdline: 'sleep 1000'}
  - {name: main, min_duration: 0s, after: {first: started}, resources: {rlimits: {nproc: 0}}, cmdline: 'exit 0'}
";
    let file = bench.file("t.yaml", task).display().to_string();
    let child = bench
        .dewar(&["run", &file, "--id", "t"])
        .spawn()
        .expect("dewar");
    let output = finish(child);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), 1, "{said}");
    let task = bench.task("t").expect("the task");
    let main = process_of(&task, "main");
    assert_eq!(main["totals"]["failed"], 1, "{main:#}");
    let reason = main["runs"][0]["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("Resource temporarily unavailable"),
        "{reason}"
    );
}
