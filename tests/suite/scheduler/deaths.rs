//! The scheduler dies, at any system call, and another one goes on with its journal.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
};

use dewar::mesos::{fakes::master::FakeMaster, protocol::messages::TaskInfo};
use nix::sys::signal::Signal;

use super::cluster::{Cluster, KEY, ask, job, options};
use crate::support::{
    Bench, code, finish,
    tracer::{Fault as TracedFault, Kill, Role, trace, trace_fault},
    wait_for,
};

#[test]
fn a_scheduler_that_is_killed_goes_on_as_the_same() {
    let mut cluster = Cluster::new(options());
    let framework = |cluster: &Cluster| {
        let socket = cluster.bench.root().join("scheduler/socket");
        ask(&socket, "GET /status HTTP/1.1\r\nHost: x\r\n\r\n").1["framework_id"].clone()
    };
    cluster.create(&job(4));
    let first = framework(&cluster);
    for count in [8_u32, 12, 16, 20] {
        cluster.job(&["scale", KEY, &count.to_string(), "--detach"]);
        cluster.kill_scheduler();
        cluster.start();
        cluster.is_settled(KEY, u64::from(count));
        cluster.has_exactly(KEY, count);
    }
    assert_eq!(framework(&cluster), first);
    // In the middle of an update too.
    let file = cluster.file("next.yaml", &job(20).replace("sleep 1000", "sleep 1001"));
    cluster.job(&["update", &file, "--detach"]);
    for _ in 0..4 {
        cluster.kill_scheduler();
        cluster.start();
    }
    wait_for("the update", || {
        let view = cluster.view(KEY)?;
        (view["update"]["state"] == "ROLLED_FORWARD").then_some(())
    });
    cluster.has_exactly(KEY, 20);
    let infos = cluster.master.look(|master| {
        let tasks = master.tasks().into_iter();
        let infos = tasks.filter_map(|(id, ..)| master.info(&id).cloned());
        infos.collect::<Vec<_>>()
    });
    let is_new = |info: &TaskInfo| String::from_utf8_lossy(info.data()).contains("sleep 1001");
    assert!(infos.iter().all(is_new));
}

#[test]
fn a_second_scheduler_waits_and_takes_over() {
    let mut cluster = Cluster::new(options());
    cluster.create(&job(3));
    let mut second = cluster.spawn();
    let mut lines = BufReader::new(second.stderr.take().expect("stderr")).lines();
    let line = lines.next().expect("a line").expect("text");
    assert!(line.contains("waiting to take its place"), "{line}");
    let before = cluster.tasks();
    cluster.kill_scheduler();
    let line = lines.next().expect("a line").expect("text");
    assert!(line.starts_with("listening"), "{line}");
    cluster.scheduler = Some(second);
    cluster.is_settled(KEY, 3);
    assert_eq!(cluster.tasks(), before);
    cluster.job(&["scale", KEY, "4"]);
    cluster.has_exactly(KEY, 4);
}

/// The scheduler of this root, wherever it was started.
fn scheduler_pid(bench: &Bench) -> Option<u64> {
    let root = bench.root().display().to_string();
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
    pids.find(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        words.contains(&root) && words.contains("\0scheduler\0")
    })
}

/// Kills the scheduler before its N-th system call, while a job of three is created; another one
/// makes it come true. Returns how many system calls there were, when that is fewer.
fn killed_before(call: u64) -> Option<u64> {
    let mut cluster = Cluster {
        bench: Bench::new(),
        master: FakeMaster::start(options()).expect("a master"),
        scheduler: None,
        more: Vec::new(),
    };
    let address = cluster.master.address();
    let mut command = cluster.bench.dewar(&["scheduler", "--master", &address]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let kill = Kill {
        role: Role::Client,
        before: call,
        root_too: false,
    };
    let traced = std::thread::spawn(move || trace(command, Some(kill)));
    let file = cluster.file("job.yaml", &job(3));
    // It may be dead before it listens, or before it answers.
    wait_for("the scheduler to do what it can", || {
        if traced.is_finished() {
            return Some(());
        }
        let output = cluster.dewar(&["job", "create", &file, "--detach"]);
        let is_there = cluster.tasks().len() == 3;
        (code(&output) != 1 && is_there).then_some(())
    });
    if !traced.is_finished()
        && let Some(pid) = scheduler_pid(&cluster.bench)
    {
        let pid = nix::unistd::Pid::from_raw(pid as i32);
        // It may be killed in this very moment.
        let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
    }
    let traced = traced.join().expect("the tracer");
    cluster.start();
    let again = cluster.dewar(&["job", "create", &file, "--detach"]);
    assert!(
        [0, 2].contains(&code(&again)),
        "it is there, or was never begun"
    );
    cluster.is_settled(KEY, 3);
    cluster.has_exactly(KEY, 3);
    (!traced.killed).then(|| traced.calls[&Role::Client])
}

#[test]
fn killing_the_scheduler_before_a_system_call_changes_nothing() {
    let all = killed_before(u64::MAX).expect("all its calls");
    let is_whole = std::env::var("DEWAR_CRASH").is_ok_and(|value| value == "all");
    let step = if is_whole { 1 } else { (all / 12).max(1) };
    println!("{all} system calls, every {step}th");
    for call in (1..=all).step_by(step as usize) {
        killed_before(call);
    }
}

#[test]
fn a_journal_that_cannot_be_written_ends_the_scheduler_and_nothing_else() {
    let mut cluster = Cluster::new(options());
    cluster.create(&job(3));
    cluster.kill_scheduler();
    let address = cluster.master.address();
    let mut command = cluster.bench.dewar(&["scheduler", "--master", &address]);
    let log = cluster.bench.path().join("err");
    command
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).expect("a file"));
    let fault = TracedFault {
        role: Role::Client,
        calls: &[libc::SYS_fdatasync],
        // The first one is the replay's own.
        from: 2,
        times: u64::MAX,
        errno: libc::EIO,
    };
    let traced = std::thread::spawn(move || trace_fault(command, fault));
    let file = cluster.file("more.yaml", &job(4).replace("name: web", "name: more"));
    let output = wait_for("the answer", || {
        let output = cluster.dewar(&["job", "create", &file, "--detach"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // Until it listens there is no scheduler.
        (!said.contains("no scheduler at") || traced.is_finished()).then_some(output)
    });
    assert_eq!(
        code(&output),
        1,
        "what is not on disk is not said to be done"
    );
    let traced = traced.join().expect("the tracer");
    assert_eq!(traced.code, Some(1));
    let said = fs::read_to_string(log).expect("the log");
    assert!(said.contains("the journal cannot be written"), "{said}");
    cluster.start();
    // What was written and not synced may be there or not: the client was told that this is
    // not known.
    cluster.dewar(&["job", "kill", "www/prod/more"]);
    cluster.is_settled(KEY, 3);
    cluster.has_exactly(KEY, 3);
}

#[test]
fn what_is_followed_is_followed_over_the_schedulers_death() {
    let mut cluster = Cluster::new(options());
    cluster.create(&job(6));
    let slow = job(6)
        .replace("sleep 1000", "sleep 1001")
        .replace("watch_secs: 0", "watch_secs: 0.3");
    let update = cluster
        .bench
        .dewar(&["job", "update", &cluster.file("slow.yaml", &slow)])
        .spawn()
        .expect("a client");
    wait_for("the update to begin", || {
        let view = cluster.view(KEY)?;
        (view["update"]["is_active"] == true).then_some(())
    });
    cluster.kill_scheduler();
    cluster.start();
    let output = finish(update);
    assert_eq!(
        code(&output),
        0,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("update rolled forward 6/6"), "{told}");
}

#[test]
fn two_schedulers_of_one_cluster_give_different_ids() {
    let id = || {
        let cluster = Cluster::new(options());
        cluster.create(&job(1));
        cluster.tasks()[0].0.clone()
    };
    assert_ne!(id(), id());
}
