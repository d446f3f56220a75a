//! What is recorded of an end is what happened: under a debugger, under a parent that does not
//! reap, and whoever of ours dies meanwhile.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Bench, Known, code,
    debugger::Debugger,
    finish, kill_at_once, process_of, signal, stderr,
    tracer::{Fault, Role, trace_fault},
    wait_for,
};

/// A process that ends with 3 when it is let go.
const WAITS: &str = "
max_failures: 1
processes:
  - name: main
    cmdline: 'echo $$ > pid; while [ ! -e go ]; do sleep 0.02; done; exit 3'
";

/// Begins a task of one process and returns the pid that this one says.
fn begin(bench: &Bench, task: &str) -> String {
    bench.detach("t", task);
    pid_in(bench, "pid")
}

fn pid_in(bench: &Bench, name: &str) -> String {
    wait_for("a pid", || {
        let text = fs::read_to_string(bench.sandbox("t").join(name)).ok()?;
        text.ends_with('\n').then(|| text.trim().to_owned())
    })
}

fn go(bench: &Bench) {
    fs::write(bench.sandbox("t").join("go"), "").expect("a file");
}

fn runs(bench: &Bench) -> Vec<Value> {
    let task = bench.task("t").expect("the task");
    let runs = process_of(&task, "main")["runs"].clone();
    runs.as_array().expect("runs").clone()
}

/// The task had one run, which ended with its own exit code.
fn failed_once(bench: &Bench) {
    let runs = runs(bench);
    assert_eq!(runs.len(), 1, "{runs:#?}");
    assert_eq!(
        (&runs[0]["state"], &runs[0]["exit_code"]),
        (&"FAILED".into(), &3.into())
    );
}

fn ours(bench: &Bench) -> [u64; 3] {
    let task = bench.task("t").expect("the task");
    ["root_pid", "keeper_pid", "runner_pid"].map(|who| task[who].as_u64().expect("a pid"))
}

/// How often a process has waited for something, and its time on the processor in ticks.
fn activity(pid: u64) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let waits = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        .and_then(|count| count.trim().parse().ok());
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let (_, rest) = stat.rsplit_once(") ").expect("stat");
    let mut fields = rest
        .split(' ')
        .skip(11)
        .map(|field| field.parse::<u64>().unwrap_or(0));
    let user = fields.next().unwrap_or(0);
    (waits.expect("a count"), user + fields.next().unwrap_or(0))
}

#[test]
fn a_process_that_a_debugger_holds_keeps_its_run() {
    let bench = Bench::new();
    let pid = begin(&bench, WAITS);
    let debugger = Debugger::attach(&pid);
    go(&bench);
    debugger.sees_end();
    let [_, keeper, _] = ours(&bench);
    // What the end has caused is over by now; from here on nothing may happen.
    std::thread::sleep(Duration::from_millis(300));
    let before = activity(keeper);
    std::thread::sleep(Duration::from_millis(700));
    let after = activity(keeper);
    assert_eq!(after.0, before.0, "the keeper polls");
    assert!(
        after.1 <= before.1 + 1,
        "the keeper is busy: {before:?} {after:?}"
    );
    let held = runs(&bench);
    assert_eq!(
        (held.len(), held[0]["state"].clone()),
        (1, "RUNNING".into())
    );
    debugger.let_go();
    assert_eq!(code(&bench.run(&["wait", "t"])), 1);
    failed_once(&bench);
}

#[test]
fn a_kill_does_not_wait_for_a_debugger() {
    for held_before in [false, true] {
        let bench = Bench::new();
        let pid = begin(&bench, WAITS);
        let debugger = Debugger::attach(&pid);
        if held_before {
            go(&bench);
            debugger.sees_end();
        }
        let killed = bench.run(&["kill", "--now", "t"]);
        assert_eq!(code(&killed), 0, "{}", stderr(&killed));
        let runs = runs(&bench);
        assert_eq!(runs.len(), 1, "{runs:#?}");
        match held_before {
            true => assert_eq!(runs[0]["exit_code"], 3),
            false => assert_eq!(runs[0]["signal"], "SIGKILL"),
        }
        if !held_before {
            debugger.sees_end();
        }
        debugger.let_go();
    }
}

#[test]
fn a_successor_waits_for_a_debugger_too() {
    for both in [false, true] {
        let bench = Bench::new();
        let pid = begin(&bench, WAITS);
        let debugger = Debugger::attach(&pid);
        go(&bench);
        debugger.sees_end();
        let [root, keeper, _] = ours(&bench);
        match both {
            true => kill_at_once(&[root, keeper]),
            false => signal(keeper, Signal::SIGKILL),
        }
        let attached = bench.dewar(&["attach", "t"]).spawn().expect("dewar");
        // One that is not its parent reads its end in spite of the debugger, and may have left.
        wait_for("a successor", || {
            let task = bench.task("t")?;
            let now = task["keeper_pid"].as_u64();
            let is_there = now.is_some_and(|now| now != keeper);
            (is_there || (both && task["state"] == "FAILED")).then_some(())
        });
        debugger.let_go();
        assert_eq!(code(&finish(attached)), 1);
        let runs = runs(&bench);
        assert_eq!(runs.len(), 1, "both: {both}: {runs:#?}");
        assert_eq!(runs[0]["exit_code"], 3, "both: {both}");
    }
}

#[test]
fn a_runner_that_a_debugger_holds_is_replaced() {
    let bench = Bench::new();
    begin(&bench, WAITS);
    let [_, _, runner] = ours(&bench);
    let debugger = Debugger::attach(&runner.to_string());
    signal(runner, Signal::SIGKILL);
    debugger.sees_end();
    wait_for("a new runner", || {
        let now = bench.task("t")?["runner_pid"].as_u64()?;
        (now != runner).then_some(())
    });
    debugger.let_go();
    go(&bench);
    assert_eq!(code(&bench.run(&["wait", "t"])), 1);
    assert_eq!(runs(&bench)[0]["exit_code"], 3);
}

#[test]
fn a_health_check_that_a_debugger_holds_has_not_failed() {
    let bench = Bench::new();
    let task = "
processes:
  - name: main
    cmdline: 'while [ ! -e go ]; do sleep 0.02; done'
    health:
      shell: 'if [ -e seen ]; then exit 0; fi; touch seen; echo $$ > script; while [ ! -e end ]; do sleep 0.02; done'
      interval: 100ms
      timeout: 100s
      max_consecutive_failures: 0
      initial_interval: 0s
";
    bench.detach("t", task);
    let debugger = Debugger::attach(&pid_in(&bench, "script"));
    fs::write(bench.sandbox("t").join("end"), "").expect("a file");
    debugger.sees_end();
    debugger.let_go();
    wait_for("its health", || {
        let task = bench.task("t")?;
        task["notices"]
            .to_string()
            .contains("healthy")
            .then_some(())
    });
    go(&bench);
    assert_eq!(code(&bench.run(&["wait", "t"])), 0);
    let notices = bench.task("t").expect("the task")["notices"].to_string();
    assert!(!notices.contains("unhealthy"), "{notices}");
}

/// What 200 processes have come to: states, exit codes and signals of all their runs.
fn two_hundred(trace: impl FnOnce(u64) -> Option<Child>) -> Vec<String> {
    let bench = Bench::new();
    let mut task = "max_failures: 0\nprocesses:\n  - {name: first, cmdline: 'while [ ! -e go ]; do sleep 0.02; done'}\n".to_owned();
    let mut order = String::new();
    for number in 0..200 {
        let end = match number % 4 {
            0 => "exit 0".to_owned(),
            1 => format!("exit {}", 1 + number % 7),
            2 => "sleep 0.01 & wait; exit 9".to_owned(),
            _ => "kill -SEGV $$".to_owned(),
        };
        task.push_str(&format!(
            "  - {{name: p{number}, min_duration: 0s, cmdline: '{end}'}}\n"
        ));
        order.push_str(&format!("  - order: [first, p{number}]\n"));
    }
    bench.detach("t", &format!("{task}constraints:\n{order}"));
    let [_, keeper, _] = ours(&bench);
    let tracer = trace(keeper);
    go(&bench);
    let ended = bench.run(&["wait", "t"]);
    assert_eq!(code(&ended), 0, "{}", stderr(&ended));
    let task = bench.task("t").expect("the task");
    if let Some(mut tracer) = tracer {
        signal(u64::from(tracer.id()), Signal::SIGTERM);
        tracer.wait().expect("a tracer");
    }
    let processes = task["processes"].as_array().expect("processes");
    let told = |run: &Value| format!("{} {} {}", run["state"], run["exit_code"], run["signal"]);
    processes
        .iter()
        .map(|process| {
            let runs = process["runs"].as_array().expect("runs");
            let runs: Vec<String> = runs.iter().map(told).collect();
            format!("{} {}", process["name"], runs.join(", "))
        })
        .collect()
}

#[test]
fn strace_around_two_hundred_processes_changes_no_record() {
    let traced = two_hundred(|keeper| {
        let tracer = Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=execve", "-o", "/dev/null", "-p"])
            .arg(keeper.to_string())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace");
        wait_for("strace to attach", || {
            let status = fs::read_to_string(format!("/proc/{keeper}/status")).ok()?;
            let traced = format!("TracerPid:\t{}\n", tracer.id());
            status.contains(&traced).then_some(())
        });
        Some(tracer)
    });
    assert_eq!(traced, two_hundred(|_| None));
}

#[test]
fn a_slow_debugger_around_two_hundred_processes_changes_no_record() {
    let mut debugger = None;
    let traced = two_hundred(|keeper| {
        debugger = Some(Debugger::attach(&keeper.to_string()));
        None
    });
    let debugger = debugger.expect("a debugger");
    debugger.sees_end();
    debugger.let_go();
    assert_eq!(traced, two_hundred(|_| None));
}

/// A parent of root, which is given all that root and keeper leave behind, and never reaps.
struct Careless(Child);

impl Careless {
    fn begin(bench: &Bench, task: &str) -> Careless {
        let file = bench.file("t.yaml", task).display().to_string();
        let script = "
import ctypes, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
subprocess.run(sys.argv[1:], check=True)
print('begun', flush=True)
while True: time.sleep(1000)";
        let dewar = bench.dewar(&["run", &file, "--id", "t", "--detach"]);
        let child = Command::new("python3")
            .args(["-c", script])
            .arg(dewar.get_program())
            .args(dewar.get_args())
            .current_dir(bench.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("python3");
        Careless(child)
    }

    /// The kernel's letter for the state of a process, if that is a child of the careless one.
    fn state_of(&self, pid: &str) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut words = rest.split(' ');
        let state = words.next()?.chars().next()?;
        (words.next()? == self.0.id().to_string()).then_some(state)
    }
}

impl Drop for Careless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_parent_that_does_not_reap_hides_no_end() {
    // The end comes while a new keeper looks, or before there is one.
    for ends_first in [false, true] {
        let bench = Bench::new();
        let parent = Careless::begin(&bench, WAITS);
        let pid = pid_in(&bench, "pid");
        wait_for("the exec record", || {
            (runs(&bench)[0]["state"] == "RUNNING").then_some(())
        });
        let [root, keeper, _] = ours(&bench);
        kill_at_once(&[root, keeper]);
        wait_for("its new parent", || parent.state_of(&pid));
        if ends_first {
            go(&bench);
            wait_for("its end", || {
                (parent.state_of(&pid) == Some('Z')).then_some(())
            });
        }
        let attached = bench.dewar(&["attach", "t"]).spawn().expect("dewar");
        if !ends_first {
            wait_for("a new keeper", || {
                let now = bench.task("t")?["keeper_pid"].as_u64()?;
                (now != keeper).then_some(())
            });
            go(&bench);
        }
        let began = Instant::now();
        assert_eq!(code(&finish(attached)), 1);
        // Far longer than it takes, and nothing to a parent that never reaps.
        assert!(began.elapsed() < Duration::from_secs(60));
        assert_eq!(
            parent.state_of(&pid),
            Some('Z'),
            "it was reaped: nothing was tested"
        );
        failed_once(&bench);
    }
}

#[test]
fn a_zombie_tells_its_end_where_the_kernel_tells_none_of_strangers() {
    let bench = Bench::new();
    let parent = Careless::begin(&bench, WAITS);
    let pid = pid_in(&bench, "pid");
    wait_for("the exec record", || {
        (runs(&bench)[0]["state"] == "RUNNING").then_some(())
    });
    let [root, keeper, _] = ours(&bench);
    kill_at_once(&[root, keeper]);
    wait_for("its new parent", || parent.state_of(&pid));
    go(&bench);
    wait_for("its end", || {
        (parent.state_of(&pid) == Some('Z')).then_some(())
    });
    // As on a kernel without PIDFD_GET_INFO.
    let fault = Fault {
        role: Role::Keeper,
        calls: &[libc::SYS_ioctl],
        from: 1,
        times: u64::MAX,
        errno: libc::ENOTTY,
    };
    let mut command = bench.dewar(&["attach", "t"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let traced = trace_fault(command, fault);
    assert!(traced.faults > 0, "nothing was asked");
    assert_eq!(traced.code, Some(1));
    let runs = runs(&bench);
    assert_eq!(runs.len(), 1, "{runs:#?}");
    assert_eq!(runs[0]["exit_code"], 3);
    assert!(!Known::new(&pid).lives());
}
