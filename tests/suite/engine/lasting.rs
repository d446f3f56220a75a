//! Years of running, in short: journals that are compacted while everything dies around them, and
//! processes that flap for as long as one likes.
//!
//! DEWAR_SOAK=600 soaks for ten minutes instead of a few seconds (CI: 60; see CONTRIBUTING.md).

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use dewar::{
    journal::{End, Exec, FileStorage, How, Journal, Kind, Record, Start, read},
    sys::clock::Moment,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    support::tracer::{Kill, Role, trace},
    support::{Bench, Known, code, finish, living_in, signal, wait_for},
};

/// Runs that a journal begins with: enough for a compaction within a few more.
const OLD: u32 = 1400;

/// A daemon that writes its pid, a line a run, and a process that ends the task after some of them.
const TASK: &str = "
finalization_wait: 5s
processes:
  - {name: a, daemon: true, ephemeral: true, min_duration: 0s, max_runs: 0, logger: {destination: none}, cmdline: 'echo $$ >> runs'}
  - {name: b, cmdline: 'while [ ! -e go ]; do sleep 0.01; done; while [ \"$(wc -l < runs)\" -lt 20 ]; do sleep 0.01; done'}
";

fn journal(bench: &Bench) -> PathBuf {
    bench.root().join("tasks/t/journal")
}

/// Begins the task, ends everything of it, and gives it a past of [`OLD`] runs.
fn with_a_past(bench: &Bench) {
    let file = bench.file("task.yaml", TASK).display().to_string();
    assert_eq!(
        code(&bench.run(&["run", &file, "--id", "t", "--detach"])),
        0
    );
    wait_for("some runs", || {
        let task = bench.task("t")?;
        (task["processes"][0]["totals"]["success"].as_u64()? > 2).then_some(())
    });
    let task = bench.task("t").expect("the task");
    let ours: Vec<Known> = ["root_pid", "keeper_pid"]
        .map(|who| Known::new(&task[who].as_u64().expect("a pid").to_string()))
        .into();
    crate::support::kill_at_once(
        &["root_pid", "keeper_pid"].map(|who| task[who].as_u64().expect("a pid")),
    );
    for one in &ours {
        wait_for("ours to go", || (!one.lives()).then_some(()));
    }
    let path = journal(bench);
    let replay = read(&path).expect("readable").expect("records");
    // A child that has passed its gate is of the task, although it may not have its HOME yet.
    let passed: Vec<Known> = replay
        .records
        .iter()
        .filter_map(|record| match &record.kind {
            Some(Kind::Start(start)) => Some(Known::since(start.pid, start.start_ticks)),
            _ => None,
        })
        .collect();
    // Those too that were launched since; some end by themselves.
    let sandbox = bench.sandbox("t").canonicalize().expect("a sandbox");
    wait_for("the task's processes to go", || {
        let living = living_in(&sandbox);
        for pid in &living {
            let _ = kill(Pid::from_raw(*pid as i32), Signal::SIGKILL);
        }
        let is_over = living.is_empty() && !passed.iter().any(Known::lives);
        is_over.then_some(())
    });
    let ended = replay
        .records
        .iter()
        .filter_map(|record| match &record.kind {
            Some(Kind::Start(start)) if start.process == 0 => Some(start.run + 1),
            _ => None,
        });
    let next = ended.max().unwrap_or_default();
    let directory = fs::File::open(path.parent().expect("a directory")).expect("open");
    let storage = FileStorage::open(directory.into(), "journal").expect("open");
    let mut journal = Journal::resume(storage, replay.end).expect("resume");
    let at = replay.records.last().expect("records").at();
    let say = |kind| Record::new(Moment { ..at }, kind);
    let exited = |run| End {
        process: 0,
        run,
        how: Some(How::Exited(0)),
        ..End::default()
    };
    // The last real one may not have ended.
    journal
        .append(vec![say(Kind::End(exited(next - 1)))])
        .expect("append");
    let mut records = Vec::new();
    for run in next..OLD {
        let start = Start {
            process: 0,
            run,
            pid: 1,
            start_ticks: 1,
            ..Start::default()
        };
        let one = [
            Kind::Start(start),
            Kind::Exec(Exec { process: 0, run }),
            Kind::End(exited(run)),
        ];
        records.extend(one.map(say));
    }
    journal.append(records).expect("append");
    fs::write(bench.sandbox("t").join("runs"), "").expect("write");
}

/// What the journal says of the daemon, against what the daemon itself wrote.
fn check(bench: &Bench, about: &dyn Fn() -> String) {
    let task = bench.task("t").expect("the task");
    assert_eq!(task["state"], "SUCCESS", "{}", about());
    let daemon = &task["processes"][0];
    let totals = &daemon["totals"];
    let count = |what: &str| totals[what].as_u64().expect("a count");
    let lines = fs::read_to_string(bench.sandbox("t").join("runs")).expect("runs");
    let runs = daemon["runs"].as_array().expect("runs");
    let pids: Vec<u64> = runs.iter().filter_map(|run| run["pid"].as_u64()).collect();
    let writers = lines.lines().map(|line| line.parse().expect("a pid"));
    let strangers: Vec<u64> = writers.filter(|pid| !pids.contains(pid)).collect();
    let lines = lines.lines().count() as u64;
    let all = count("success") + count("failed") + count("killed") + count("lost");
    let last = runs.last().expect("a run")["run"]
        .as_u64()
        .expect("a number");
    assert_eq!(
        all,
        last + 1,
        "every run has ended once: {totals} {}",
        about()
    );
    // One that was killed at the end may not have come to its line; none has two.
    let fresh = all - u64::from(OLD);
    let cut = count("killed") + count("lost");
    assert!(
        lines <= fresh && lines + cut >= fresh,
        "{lines} lines, {fresh} runs, {totals}; no runs of these: {strangers:?} {}",
        about()
    );
    assert!(runs.len() <= 100, "{} runs are listed", runs.len());
    // Earlier runs than these are not listed.
    assert!(
        strangers.is_empty() || fresh > 100,
        "{strangers:?} wrote lines, and are no runs {}",
        about()
    );
    let numbers: Vec<u64> = runs
        .iter()
        .map(|run| run["run"].as_u64().expect("a number"))
        .collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "{numbers:?}"
    );
}

fn is_compacted(path: &Path) -> bool {
    let replay = read(path).expect("readable").expect("records");
    replay.compacted_through() > 0
}

#[test]
fn a_journal_is_compacted_and_goes_on_with_its_totals_and_numbers() {
    let bench = Bench::new();
    with_a_past(&bench);
    let client = bench
        .dewar(&["attach", "t", "--format", "json"])
        .spawn()
        .expect("dewar");
    wait_for("the compaction", || {
        is_compacted(&journal(&bench)).then_some(())
    });
    // A client that follows and one that comes now see the same.
    let task = bench.task("t").expect("the task");
    let sum = |task: &Value| {
        task["processes"][0]["totals"]["success"]
            .as_u64()
            .expect("a count")
    };
    assert!(
        sum(&task) >= u64::from(OLD) - 5,
        "{}",
        task["processes"][0]["totals"]
    );
    for who in ["runner_pid", "keeper_pid"] {
        let pid = bench.task("t").expect("the task")[who]
            .as_u64()
            .expect("a pid");
        signal(pid, Signal::SIGKILL);
        let now = sum(&bench.task("t").expect("the task"));
        wait_for("it to go on", || {
            (sum(&bench.task("t")?) > now).then_some(())
        });
    }
    fs::write(bench.sandbox("t").join("go"), "").expect("write");
    assert_eq!(code(&finish(client)), 0);
    check(&bench, &|| String::new());
    let replay = read(&journal(&bench)).expect("readable").expect("records");
    let there = replay.records.len() as u64;
    let dropped = replay.total() - there;
    assert!(
        dropped > 3 * u64::from(OLD) - 500,
        "{there} of {} records",
        replay.total()
    );
    let left = fs::read_dir(journal(&bench).parent().expect("it")).expect("a directory");
    let fresh = left
        .flatten()
        .any(|entry| entry.file_name() == "journal.new");
    assert!(!fresh, "a half-written journal is left");
}

/// Kills before system calls all over the run, in the middle of which the journal is replaced.
fn kill_over_a_compaction(role: Role, points: u64) {
    let undisturbed = {
        let bench = Bench::new();
        with_a_past(&bench);
        fs::write(bench.sandbox("t").join("go"), "").expect("write");
        let mut command = bench.dewar(&["attach", "t", "--format", "plain"]);
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let traced = trace(command, None);
        assert_eq!(traced.code, Some(0));
        check(&bench, &|| "undisturbed".to_owned());
        assert!(is_compacted(&journal(&bench)));
        let calls = traced.calls[&role];
        // Over a compaction each of them reads, writes or listens all the time.
        assert!(calls > 200, "{role:?} was not followed: {calls} calls");
        calls
    };
    for point in 0..points {
        let mut before = 1 + point * undisturbed / points;
        // A run that makes fewer calls than the undisturbed one is over before its kill.
        while let Some(calls) = missed(role, before) {
            before = (calls / 2).max(1);
        }
    }
}

/// Kills before this system call, and checks that it made no difference. Returns how many calls
/// there were, when that is fewer.
fn missed(role: Role, before: u64) -> Option<u64> {
    let kill = Kill {
        role,
        before,
        root_too: false,
    };
    let bench = Bench::new();
    with_a_past(&bench);
    fs::write(bench.sandbox("t").join("go"), "").expect("write");
    let mut command = bench.dewar(&["attach", "t", "--format", "plain"]);
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let traced = trace(command, Some(kill));
    assert_eq!(traced.code, Some(0), "{kill:?}");
    check(&bench, &|| format!("{kill:?}"));
    assert!(is_compacted(&journal(&bench)), "{kill:?}");
    (!traced.killed).then(|| traced.calls[&role])
}

fn sample() -> u64 {
    match std::env::var("DEWAR_CRASH").is_ok_and(|value| value == "all") {
        true => 400,
        false => 6,
    }
}

#[test]
fn killing_the_keeper_over_a_compaction_changes_nothing() {
    kill_over_a_compaction(Role::Keeper, sample());
}

#[test]
fn killing_the_runner_over_a_compaction_changes_nothing() {
    kill_over_a_compaction(Role::Runner, sample());
}

/// What one of our processes takes.
#[derive(Clone, Copy, Debug)]
struct Taken {
    descriptors: usize,
    threads: usize,
    kilobytes: u64,
}

fn taken(pid: u64) -> Taken {
    let count = |what: &str| {
        fs::read_dir(format!("/proc/{pid}/{what}"))
            .expect("/proc")
            .count()
    };
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps_rollup");
    // Not "Private": what a child shares that was forked just now is ours all the same.
    let own = rollup
        .lines()
        .filter(|line| line.starts_with("Anonymous:"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Taken {
        descriptors: count("fd"),
        threads: count("task"),
        kilobytes: own.sum(),
    }
}

/// Children of the keeper that are dead and not reaped.
fn zombies(keeper: u64) -> usize {
    let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"));
    let children = children.unwrap_or_default();
    let is_dead = |pid: &&str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(") Z ")
    };
    children.split_whitespace().filter(is_dead).count()
}

#[test]
fn five_hundred_flapping_processes_leave_everything_as_it_was() {
    let seconds: u64 = std::env::var("DEWAR_SOAK").map_or(10, |seconds| {
        seconds.parse().expect("DEWAR_SOAK is a number of seconds")
    });
    let bench = Bench::new();
    let flapping = (0..500).map(|number| {
        let (program, logger) = match number % 5 {
            0 => ("true", "{mode: rotate, rotate: {log_size: 1KB, backups: 1}}"),
            1 => ("false", "{destination: none}"),
            2 => ("missing", "{destination: none}"),
            3 => ("true", "{destination: none}"),
            _ => ("false", "{destination: file}"),
        };
        // All pauses differ, so that they do not march in step.
        let pause = 1500 + 7 * number;
        format!(
            "  - {{name: p{number}, daemon: true, ephemeral: true, max_failures: 0, max_runs: 0, min_duration: {pause}ms, argv: [./{program}], logger: {logger}}}\n"
        )
    });
    let task = format!(
        "finalization_wait: 20s\nmax_failures: 0\nprocesses:\n  - {{name: main, cmdline: 'while [ ! -e stop ]; do sleep 0.1; done'}}\n{}",
        flapping.collect::<String>()
    );
    let programs = Programs::new(&bench);
    programs.rest();
    let file = bench.file("task.yaml", &task).display().to_string();
    let sandbox = programs.sandbox.display().to_string();
    let run = ["run", &file, "--id", "t", "--sandbox", &sandbox, "--detach"];
    assert_eq!(code(&bench.run(&run)), 0);
    let ours = || {
        let status = bench.task("t").expect("the task");
        ["root_pid", "keeper_pid", "runner_pid"].map(|who| status[who].as_u64().expect("a pid"))
    };
    all_rest(&bench);
    let (pids, before) = (ours(), ours().map(taken));

    programs.flap();
    for pid in runs(&bench).iter().filter_map(|run| run.pid) {
        signal(pid, Signal::SIGKILL);
    }
    let ended = || -> u64 { runs(&bench).iter().map(|run| run.ended).sum() };
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(500));
        // They wait for the disk, which may take its time; then they go.
        let [_, keeper, _] = pids;
        wait_for("zombies to be reaped", || {
            (zombies(keeper) < 100).then_some(())
        });
    }
    wait_for("enough runs", || (ended() > seconds * 50).then_some(()));

    programs.rest();
    all_rest(&bench);
    let after = pids.map(taken);
    println!(
        "{} runs in {seconds} s; before {before:?}; after {after:?}",
        ended()
    );
    assert_eq!(ours(), pids, "one of them was replaced");
    // The runner lists the last hundred runs of each process.
    let listed = [0, 0, 500 * 100 / 4];
    for ((before, after), listed) in before.iter().zip(&after).zip(listed) {
        let about = format!("root, keeper, runner: {before:?} {after:?}");
        // A client may be connected.
        assert!(after.descriptors <= before.descriptors + 4, "{about}");
        assert!(after.threads <= before.threads + 1, "{about}");
        let most = before.kilobytes + 2_500 + listed;
        assert!(after.kilobytes <= most, "{about}");
    }
    fs::write(programs.sandbox.join("stop"), "").expect("write");
    for pid in runs(&bench).iter().filter_map(|run| run.pid) {
        // The task stops them as well.
        let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
    }
    assert_eq!(code(&bench.run(&["wait", "t"])), 0);
    for pid in pids {
        let known = Known::new(&pid.to_string());
        wait_for("ours to leave", || (!known.lives()).then_some(()));
    }
}

/// The programs of the flapping processes, which can be made to rest.
struct Programs {
    sandbox: PathBuf,
}

impl Programs {
    fn new(bench: &Bench) -> Programs {
        let sandbox = bench.path().join("sandbox");
        fs::create_dir(&sandbox).expect("mkdir");
        Programs { sandbox }
    }

    /// From now on a run stays.
    fn rest(&self) {
        for name in ["true", "false", "missing"] {
            self.put(name, "#!/bin/sh\nexec sleep 100000\n");
        }
    }

    /// From now on a run ends at once, or cannot begin.
    fn flap(&self) {
        self.put("true", "#!/bin/true\n");
        self.put("false", "#!/bin/false\n");
        fs::remove_file(self.sandbox.join("missing")).expect("remove");
    }

    /// Puts a program in the place of another one, of which no half is ever seen.
    fn put(&self, name: &str, text: &str) {
        let new = self.sandbox.join("new");
        fs::write(&new, text).expect("write");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::rename(&new, self.sandbox.join(name)).expect("rename");
    }
}

/// What the status tells of one flapping process.
struct Flapping {
    /// Of its present run, which stays.
    pid: Option<u64>,
    /// Runs that have ended.
    ended: u64,
}

fn runs(bench: &Bench) -> Vec<Flapping> {
    let task = bench.task("t").expect("the task");
    let processes = task["processes"].as_array().expect("processes");
    let of = |process: &Value| {
        let totals = process["totals"].as_object().expect("totals");
        let last = process["runs"].as_array().and_then(|runs| runs.last());
        let pid = last.and_then(|run| run["pid"].as_u64());
        Flapping {
            pid: pid.filter(|_| process["state"] == "RUNNING"),
            ended: totals.values().filter_map(Value::as_u64).sum(),
        }
    };
    processes.iter().skip(1).map(of).collect()
}

/// Waits until every flapping process has a run that stays.
fn all_rest(bench: &Bench) {
    wait_for("every process to rest", || {
        let all = runs(bench);
        (all.len() == 500 && all.iter().all(|run| run.pid.is_some())).then_some(())
    });
}
