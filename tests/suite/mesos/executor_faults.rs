//! Random schedules of faults against the fake agent: whatever happens in between, every task ends
//! in exactly one terminal update that is acknowledged and agrees with its journal, and no process
//! outlives its executor.
//!
//! A sample runs by default; DEWAR_FAULTS=1000 tries so many (see CONTRIBUTING.md), and
//! DEWAR_FAULTS_SEED=N repeats one.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use dewar::mesos::fakes::agent::Fault;
use nix::sys::signal::Signal;

use crate::{
    mesos::stage::{Fake, Setting, Spec, Stage, last, states, task},
    support::{Known, signal, wait_for},
};

const SAMPLE: u64 = 24;
const AT_ONCE: u64 = 6;

/// A generator that is the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[derive(Clone, Copy, Debug)]
enum Blow {
    Agent(Fault),
    /// The agent dies and is back after some milliseconds.
    Away(u64),
    Runner,
    Keeper,
}

fn blow(random: &mut Random) -> Blow {
    match random.below(9) {
        0 => Blow::Agent(Fault::Drop),
        1 => Blow::Away(random.below(400)),
        2 => Blow::Agent(Fault::Refuse(1 + random.below(4) as u32)),
        3 => Blow::Agent(Fault::Mute(1)),
        4 => Blow::Agent(Fault::Duplicate),
        5 => Blow::Agent(Fault::Pieces(1 + random.below(20) as usize)),
        6 => Blow::Agent(Fault::Garbage),
        7 => Blow::Runner,
        _ => Blow::Keeper,
    }
}

const IDS: [&str; 3] = ["one", "two", "three"];

fn spec(id: &'static str, random: &mut Random) -> (Spec, &'static [&'static str]) {
    match random.below(4) {
        0 => (
            task(
                id,
                "processes: [{name: a, cmdline: 'echo $$ >> pids; sleep 0.1'}]",
            ),
            &["FINISHED"],
        ),
        1 => (
            task(
                id,
                "processes: [{name: a, cmdline: 'echo $$ >> pids; sleep 0.2; exit 3'}]",
            ),
            &["FAILED"],
        ),
        2 => (
            task(
                id,
                "processes: [{name: a, max_failures: 3, min_duration: 100ms, cmdline: 'echo $$ >> pids; exit 1'}]",
            ),
            &["FAILED"],
        ),
        _ => (
            task(
                id,
                "finalization_wait: 5s\nprocesses: [{name: a, cmdline: 'echo $$ >> pids; sleep 1000'}]",
            ),
            &["KILLED"],
        ),
    }
}

fn play(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut stage = Fake::new(Setting {
        json: random.below(4) == 0,
        // It must not be this that ends it.
        recovery: Duration::from_secs(3600),
        ..Setting::default()
    });
    let count = 1 + random.below(3) as usize;
    let (specs, ends): (Vec<_>, Vec<_>) =
        IDS[..count].iter().map(|id| spec(id, &mut random)).unzip();
    let blows: Vec<(u64, Blow)> = (0..1 + random.below(4))
        .map(|_| (random.below(300), blow(&mut random)))
        .collect();
    println!("seed {seed}: {specs:?} {blows:?}");
    stage.launch(&specs, false);
    let mut keeper_is_covered = true;
    for (pause, blow) in blows {
        std::thread::sleep(Duration::from_millis(pause));
        match blow {
            Blow::Agent(fault) => stage.agent.inflict(fault),
            Blow::Away(time) => {
                stage.agent_down();
                std::thread::sleep(Duration::from_millis(time));
                stage.agent_up();
            }
            Blow::Runner => strike(&stage, "runner_pid"),
            // The second death of a keeper is the first process' own.
            Blow::Keeper if keeper_is_covered => {
                keeper_is_covered = false;
                strike(&stage, "keeper_pid");
            }
            Blow::Keeper => {}
        }
    }
    for (spec, ends) in specs.iter().zip(&ends) {
        wait_for("a terminal update", || {
            if *ends == ["KILLED"] && states(&stage, spec.id).contains(&"STARTING".to_owned()) {
                stage.kill(spec.id, None);
            }
            let states = states(&stage, spec.id);
            ends.iter()
                .any(|end| states.contains(&(*end).to_owned()))
                .then_some(())
        });
    }
    // It leaves when everything is acknowledged, and not before.
    wait_for("the executor to leave", || {
        stage.is_executor_gone().then_some(())
    });
    for (spec, ends) in specs.iter().zip(&ends) {
        check(&stage, spec.id, ends);
    }
}

fn check(stage: &Fake, id: &str, ends: &[&str]) {
    let seen = states(stage, id);
    let is_terminal = |state: &&String| !["STARTING", "RUNNING"].contains(&state.as_str());
    assert_eq!(seen.iter().filter(is_terminal).count(), 1, "{id}: {seen:?}");
    assert_eq!(seen[0], "STARTING", "{id}: {seen:?}");
    assert!(
        seen.len() <= 3 && ends.contains(&seen[seen.len() - 1].as_str()),
        "{id}: {seen:?}"
    );
    let journal = stage.bench().task(id).expect("its journal");
    let expected = match last(stage, id).state().as_str_name() {
        "TASK_FINISHED" => "SUCCESS",
        "TASK_FAILED" => "FAILED",
        _ => "KILLED",
    };
    assert_eq!(journal["state"], expected, "{journal}");
    let runs = journal["processes"][0]["runs"]
        .as_array()
        .expect("runs")
        .len();
    let path = stage.sandbox().join("tasks").join(id).join("sandbox/pids");
    let pids = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        pids.lines().count(),
        runs,
        "{id}: a run was doubled or lost: {journal}"
    );
    for pid in pids.lines() {
        assert!(
            !Known::new(pid).lives() || !is_in(stage, pid),
            "{pid} is alive"
        );
    }
}

/// The pid may be another process' by now.
fn is_in(stage: &Fake, pid: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let sandbox = stage.sandbox().display().to_string();
    String::from_utf8_lossy(&environment).contains(&sandbox)
}

/// SIGKILL, once that process is there.
fn strike(stage: &Fake, who: &str) {
    let task = IDS.iter().find_map(|id| stage.bench().task(id));
    if let Some(pid) = task.and_then(|task| task[who].as_u64()) {
        signal(pid, Signal::SIGKILL);
    }
}

#[test]
fn random_faults_change_no_outcome() {
    let variable = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    if let Some(seed) = variable("DEWAR_FAULTS_SEED") {
        return play(seed);
    }
    let count = variable("DEWAR_FAULTS").unwrap_or(SAMPLE);
    let next = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > count {
                        break;
                    }
                    play(seed);
                }
            });
        }
    });
}
