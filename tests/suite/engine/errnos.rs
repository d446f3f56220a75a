//! A system that says no: every system call of root, keeper and runner that may fail is made to
//! fail, once or from then on. The task then ends clearly (or is LOST), nothing hangs, nothing is
//! doubled, nothing is left. What is only short for a while, because processes or descriptors come
//! back, is no failure of any process.
//!
//! A sample runs by default; DEWAR_ERRNO=all tries every call (see CONTRIBUTING.md).

use std::{collections::BTreeMap, fs};

use libc::{
    SYS_accept4, SYS_clone, SYS_clone3, SYS_connect, SYS_epoll_create1, SYS_epoll_wait,
    SYS_eventfd2, SYS_fallocate, SYS_fdatasync, SYS_fork, SYS_fsync, SYS_ftruncate, SYS_mkdir,
    SYS_mkdirat, SYS_openat, SYS_pidfd_open, SYS_pipe2, SYS_poll, SYS_pwrite64, SYS_read,
    SYS_recvfrom, SYS_recvmsg, SYS_sendmsg, SYS_sendto, SYS_signalfd4, SYS_socket, SYS_socketpair,
    SYS_timerfd_create, SYS_vfork, SYS_waitid, SYS_write, SYS_writev,
};

use crate::{
    crash::{TASK, assert_no_orphans, expected_runs, id},
    support::Bench,
    support::tracer::{Fault, Role, trace_fault},
};

const SYNCS: &[i64] = &[SYS_fdatasync, SYS_fsync];
const SPACE: &[i64] = &[
    SYS_pwrite64,
    SYS_ftruncate,
    SYS_fallocate,
    SYS_mkdir,
    SYS_mkdirat,
];
const DESCRIPTORS: &[i64] = &[
    SYS_openat,
    SYS_socket,
    SYS_socketpair,
    SYS_pipe2,
    SYS_accept4,
    SYS_epoll_create1,
    SYS_eventfd2,
    SYS_signalfd4,
    SYS_timerfd_create,
    SYS_pidfd_open,
];
const FORKS: &[i64] = &[SYS_clone, SYS_clone3, SYS_fork, SYS_vfork];
const WAITS: &[i64] = &[
    SYS_read,
    SYS_write,
    SYS_writev,
    SYS_poll,
    SYS_epoll_wait,
    SYS_waitid,
    SYS_accept4,
    SYS_connect,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_sendto,
    SYS_sendmsg,
];

/// Calls a kind, a role and a way in the sample.
const SAMPLE: u64 = 6;

/// For how many calls something is short: more than are made at once, and over within a second.
const WHILE: u64 = 6;

/// What a fault came to, for the test's output.
type Outcomes = BTreeMap<i32, u64>;

fn sweep(role: Role, calls: &'static [i64], errno: i32) {
    let fault = |from, times| Fault {
        role,
        calls,
        from,
        times,
        errno,
    };
    let undisturbed = check(fault(u64::MAX, 1)).1;
    let all = std::env::var("DEWAR_ERRNO").is_ok_and(|value| value == "all");
    let step = match all {
        true => 1,
        false => (undisturbed / SAMPLE).max(1),
    };
    let ways: &[u64] = match errno {
        // Being interrupted for ever is no life.
        libc::EINTR => &[1],
        // What is short for ever is waited for, for ever.
        libc::EMFILE | libc::EAGAIN => &[1, WHILE],
        _ => &[1, u64::MAX],
    };
    let mut outcomes = Outcomes::new();
    for from in (1..=undisturbed).step_by(step as usize) {
        for times in ways {
            let (code, _) = check(fault(from, *times));
            *outcomes.entry(code).or_default() += 1;
        }
    }
    println!("{role:?} {errno}: {undisturbed} calls, exit codes {outcomes:?}");
}

/// Runs the task with this fault; its exit code, and how many calls the fault could have been.
fn check(fault: Fault) -> (i32, u64) {
    let bench = Bench::new();
    let file = bench.file("task.yaml", TASK).display().to_string();
    let mut command = bench.dewar(&["run", &file, "--id", &id(&bench), "--format", "plain"]);
    command.stdout(std::process::Stdio::null());
    command.stderr(fs::File::create(bench.path().join("err")).expect("a file"));
    let traced = trace_fault(command, fault);
    let said = fs::read_to_string(bench.path().join("err")).unwrap_or_default();
    let about = || {
        let engine = bench
            .root()
            .join("tasks")
            .join(id(&bench))
            .join("engine.log");
        format!(
            "{fault:?}\n{said}\n{}\n{}",
            fs::read_to_string(engine).unwrap_or_default(),
            bench.task(&id(&bench)).unwrap_or_default()
        )
    };
    let code = traced
        .code
        .unwrap_or_else(|| panic!("the client was killed: {}", about()));
    assert!(
        [0, 1, 2, 4].contains(&code),
        "exit code {code}: {}",
        about()
    );
    if fault.errno == libc::EINTR {
        // An interruption is no failure.
        assert_eq!(code, 0, "{}", about());
    }
    if code == 2 || code == 4 {
        assert!(
            said.contains("error: ") || said.contains("LOST"),
            "nothing is said: {}",
            about()
        );
    }
    let events = fs::read_to_string(bench.sandbox(&id(&bench)).join("events")).unwrap_or_default();
    let Some(task) = bench.task(&id(&bench)) else {
        assert_eq!(events, "", "something ran without a record: {}", about());
        return (code, traced.seen);
    };
    let state = task["state"].as_str().unwrap_or_default().to_owned();
    let expected = match code {
        0 => "SUCCESS",
        1 => "FAILED",
        4 => "LOST",
        _ => state.as_str(),
    };
    // A journal that could not be written at all cannot say LOST.
    if code != 4 {
        assert_eq!(state, expected, "{}", about());
    }
    for (name, codes) in expected_runs() {
        let mut processes = task["processes"].as_array().expect("processes").iter();
        let process = processes
            .find(|process| process["name"] == name)
            .expect("it");
        let runs = process["runs"].as_array().expect("runs");
        let starts = events
            .lines()
            .filter(|line| *line == format!("{name} start"))
            .count();
        assert!(
            starts <= runs.len(),
            "{name} ran {starts} times: {}",
            about()
        );
        if code == 0 && runs.iter().all(|run| run["reason"].is_null()) {
            let found: Vec<_> = runs.iter().map(|run| run["exit_code"].clone()).collect();
            assert_eq!(found, codes, "{name}: {}", about());
        }
    }
    assert_no_orphans(&bench, &about);
    (code, traced.seen)
}

/// Where output could not be read, nothing is begun that would wait for its reader.
#[test]
fn a_process_whose_output_cannot_be_read_is_not_begun() {
    let task = "
processes:
  - name: a
    cmdline: seq 20000
    max_failures: 1
    logger: {mode: rotate}
";
    // The two pipes of the process, then the pump's own.
    for from in 1..=3 {
        let bench = Bench::new();
        let file = bench.file("task.yaml", task).display().to_string();
        let mut command = bench.dewar(&["run", &file, "--id", "t"]);
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        let traced = trace_fault(
            command,
            Fault {
                role: Role::Keeper,
                calls: &[SYS_pipe2],
                from,
                times: 1,
                errno: libc::EMFILE,
            },
        );
        assert!(traced.seen >= from, "{} pipes were made", traced.seen);
        let log = bench.sandbox("t").join(".logs/a/0/stdout");
        let log = fs::read_to_string(log).unwrap_or_default();
        // That was our shortage: it is tried again.
        assert_eq!(traced.code, Some(0), "{:?}", bench.task("t"));
        assert_eq!(log.lines().count(), 20_000);
    }
}

macro_rules! sweeps {
    ($($name:ident: $role:ident $calls:ident $errno:ident)*) => {
        $(
            #[test]
            fn $name() {
                sweep(Role::$role, $calls, libc::$errno);
            }
        )*
    };
}

sweeps! {
    root_cannot_sync: Root SYNCS EIO
    keeper_cannot_sync: Keeper SYNCS EIO
    root_has_no_space: Root SPACE ENOSPC
    keeper_has_no_space: Keeper SPACE ENOSPC
    runner_has_no_space: Runner SPACE ENOSPC
    root_has_no_descriptors: Root DESCRIPTORS EMFILE
    keeper_has_no_descriptors: Keeper DESCRIPTORS EMFILE
    runner_has_no_descriptors: Runner DESCRIPTORS EMFILE
    root_cannot_fork: Root FORKS EAGAIN
    keeper_cannot_fork: Keeper FORKS EAGAIN
    runner_cannot_fork: Runner FORKS EAGAIN
    root_is_interrupted: Root WAITS EINTR
    keeper_is_interrupted: Keeper WAITS EINTR
    runner_is_interrupted: Runner WAITS EINTR
}
