//! A journal with a snapshot in it leads to the same plan and the same history as all its records.

use proptest::prelude::*;

use super::{
    history::{LISTED, NOTICES},
    replay::{Model, facts_of},
    snapshot::snapshot,
};
use crate::{
    engine::plan::Plan,
    journal::{
        Again, Checked, Cover, End, Exec, FileStorage, Header, Health, How, Journal, KillRequest,
        Kind, Notice, Record, Replay, Restart, Signal, SignalSent, Stage, Start, TaskState, Tenure,
        TimedOut, read,
    },
    sys::clock::Moment,
    task::{Backoff, Condition, Period, Process, Task},
};

fn task() -> Task {
    let process = |name: &str| Process {
        cmdline: Some("true".to_owned()),
        max_failures: 3,
        max_runs: 0,
        min_duration: Period::from_secs(1),
        backoff: Some(Backoff::default()),
        ..Process::named(name.to_owned())
    };
    let mut dependent = process("dependent");
    dependent
        .after
        .insert("flappy".to_owned(), Condition::Failed);
    dependent
        .after
        .insert("steady".to_owned(), Condition::Healthy);
    let steady = Process {
        daemon: true,
        ..process("steady")
    };
    Task {
        max_failures: 0,
        ..Task::of("t".to_owned(), vec![process("flappy"), steady, dependent])
    }
}

/// What one run of a process is like.
#[derive(Clone, Copy, Debug)]
struct Life {
    process: u32,
    seconds: u64,
    code: u32,
    again: bool,
    exec: bool,
    healthy: Option<bool>,
    late: bool,
    signalled: bool,
    restart_within: bool,
    restart_after: bool,
    notice: bool,
    tenure: bool,
}

fn life() -> impl Strategy<Value = Life> {
    let flag = |odds: f64| prop::bool::weighted(odds);
    (
        (0..2u32, 0..900u64, 0..2u32),
        (flag(0.1), flag(0.9), prop::option::weighted(0.2, flag(0.7))),
        (flag(0.05), flag(0.05), flag(0.05), flag(0.05)),
        (flag(0.3), flag(0.05)),
    )
        .prop_map(
            |((process, seconds, code), (again, exec, healthy), odd, about)| Life {
                process,
                seconds,
                code,
                again,
                exec,
                healthy,
                late: odd.0,
                signalled: odd.1,
                restart_within: odd.2,
                restart_after: odd.3,
                notice: about.0,
                tenure: about.1,
            },
        )
}

/// Writes the records of a task, with a clock and a plan that know of each.
struct Recorder {
    clock: u64,
    plan: Plan,
    records: Vec<Record>,
}

impl Recorder {
    /// A task that has become ACTIVE.
    fn begin(task: &Task) -> Recorder {
        let mut recorder = Recorder {
            clock: 1_000_000,
            plan: Plan::new(task, 0),
            records: Vec::new(),
        };
        recorder.say(Kind::Header(Header {
            version: 1,
            task_id: "t".to_owned(),
            task: serde_json::to_string(task).unwrap(),
            ..Header::default()
        }));
        recorder.tenure(Cover::Whole);
        recorder.say(Kind::Stage(Stage {
            state: TaskState::Active.into(),
            outcome: TaskState::Success.into(),
            ..Stage::default()
        }));
        recorder
    }

    fn say(&mut self, kind: Kind) {
        self.clock += 1_000;
        let at = Moment {
            boot_us: self.clock,
            wall_us: 1_790_000_000_000_000 + self.clock,
        };
        let record = Record::new(at, kind);
        for (fact, at) in facts_of(&record) {
            self.plan.apply(&fact, at);
        }
        self.records.push(record);
    }

    fn tenure(&mut self, cover: Cover) {
        self.say(Kind::Tenure(Tenure {
            boot_id: "one".to_owned(),
            keeper_pid: 1,
            cover: cover.into(),
        }));
    }

    /// The records of one run, except its end.
    fn run(&mut self, index: usize, run: u32, life: &Life) {
        let process = life.process;
        let is_over = !self.plan.may_start(process as usize);
        if life.restart_after || is_over {
            self.say(Kind::Restart(Restart { process }));
        }
        if life.tenure {
            self.tenure(match index % 2 {
                0 => Cover::Whole,
                _ => Cover::Used,
            });
        }
        self.say(Kind::Start(Start {
            process,
            run,
            pid: 100 + run,
            start_ticks: self.clock,
            ..Start::default()
        }));
        self.during(index, run, life);
        self.clock += life.seconds * 1_000_000;
    }

    /// The records between a run's start and its end.
    fn during(&mut self, index: usize, run: u32, life: &Life) {
        let process = life.process;
        if life.again {
            let again = Again {
                process,
                run,
                pid: 200 + run,
                start_ticks: self.clock,
                ..Again::default()
            };
            self.say(Kind::Again(again));
        }
        if life.exec {
            self.say(Kind::Exec(Exec { process, run }));
        }
        if let Some(healthy) = life.healthy {
            let health = Health {
                process: Some(process),
                run,
                healthy,
                reason: "no".to_owned(),
            };
            self.say(Kind::Health(health));
            let health = Health {
                process: None,
                run: 0,
                healthy: true,
                reason: String::new(),
            };
            self.say(Kind::Health(health));
            let value = Some(index as i32);
            self.say(Kind::Checked(Checked { value }));
        }
        if life.signalled {
            let signal = Signal {
                process,
                run,
                signal: 1,
                is_owed: true,
            };
            self.say(Kind::Signal(signal));
            let sent = SignalSent {
                process,
                run,
                count: 1,
            };
            self.say(Kind::SignalSent(sent));
        }
        if life.late {
            let late = TimedOut {
                process,
                run,
                after_us: 5,
            };
            self.say(Kind::TimedOut(late));
        }
        if life.restart_within {
            self.say(Kind::Restart(Restart { process }));
        }
        if life.notice {
            let notice = Notice {
                text: format!("notice {index}"),
                process: Some(process),
                run: Some(run),
                ..Notice::default()
            };
            self.say(Kind::Notice(notice));
        }
    }
}

/// The records of a task whose processes lived such lives; processes that failed for good are
/// started again all the same, after a restart.
fn history(lives: &[Life], last_lives: bool) -> Vec<Record> {
    let mut recorder = Recorder::begin(&task());
    let mut next = [0u32; 3];
    for (index, life) in lives.iter().enumerate() {
        let (process, run) = (life.process, next[life.process as usize]);
        next[life.process as usize] += 1;
        recorder.run(index, run, life);
        if !(last_lives && index + 1 == lives.len()) {
            recorder.say(Kind::End(End {
                process,
                run,
                how: Some(How::Exited(life.code)),
                ..End::default()
            }));
        }
    }
    if !last_lives && lives.len().is_multiple_of(3) {
        recorder.say(Kind::Kill(KillRequest {
            now: false,
            budget_us: Some(5),
            reason: String::new(),
        }));
    }
    recorder.records
}

/// The journal of `records` on a disk, compacted after each of `points` records.
fn compacted(records: &[Record], points: &[usize]) -> Replay {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let opened = std::fs::File::open(directory.path()).unwrap();
    let storage = FileStorage::open(opened.into(), "journal").unwrap();
    let mut journal = Journal::create(storage).unwrap();
    let mut from = 0;
    for point in points.iter().copied().chain([records.len()]) {
        if point > from {
            journal.append(records[from..point].to_vec()).unwrap();
            from = point;
        }
        let replay = read(&path).unwrap().unwrap();
        let snapshot = snapshot(&replay, &task());
        let record = Record::new(Moment::default(), Kind::Snapshot(snapshot));
        journal.compact(record).unwrap();
    }
    read(&path).unwrap().unwrap()
}

/// Histories are long: fewer of them than of other things.
const CASES: u32 = 24;

/// How the processes stand, all that people see, and the notices.
fn shown(replay: &Replay) -> (Vec<String>, String, Vec<String>) {
    let model = Model::replay(replay, usize::MAX).unwrap();
    let plan = &model.plan;
    let standing = (0..3).map(|process| {
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            plan.past(process),
            plan.situation(process),
            plan.counts(process),
            plan.dependencies(process).collect::<Vec<_>>(),
            plan.state(),
            plan.live(),
        )
    });
    let mut status = model.history.status(plan, "", [None; 3], Moment::default());
    let notices = std::mem::take(&mut status.notices).into_iter();
    let notices = notices.map(|notice| notice.text);
    let notices = notices.filter(|text| text.starts_with("notice")).collect();
    let health = (model.history.healthy(), model.history.checked());
    let text = serde_json::to_string_pretty(&status).unwrap();
    // When a pause ends is told on the clock of this moment.
    let lines = text.lines().filter(|line| !line.contains("next_start_at"));
    let text = format!("{}\n{health:?}", lines.collect::<Vec<_>>().join("\n"));
    (standing.collect(), text, notices)
}

fn check(lives: &[Life], points: &[usize], last_lives: bool) -> Result<(), TestCaseError> {
    let records = history(lives, last_lives);
    let header = match &records[0].kind {
        Some(Kind::Header(header)) => header.clone(),
        _ => unreachable!("the header is first"),
    };
    let whole = Replay {
        records: records.clone(),
        ..Replay::of_header(header)
    };
    let mut points: Vec<usize> = points
        .iter()
        .map(|point| 1 + point % records.len())
        .collect();
    points.sort_unstable();
    let small = compacted(&records, &points);
    prop_assert_eq!(small.total(), records.len() as u64);
    let (standing, text, notices) = shown(&whole);
    let (small_standing, small_text, small_notices) = shown(&small);
    for (ours, theirs) in small_standing.iter().zip(&standing) {
        prop_assert_eq!(ours, theirs);
    }
    let differs = text.lines().zip(small_text.lines()).find(|(a, b)| a != b);
    prop_assert_eq!(differs, None);
    prop_assert_eq!(text.lines().count(), small_text.lines().count());
    // Those that told of runs which are gone make room for older ones.
    prop_assert!(small_notices.ends_with(&notices));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES.max(ProptestConfig::default().cases / 8), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_compacted_journal_tells_the_same_plan_and_the_same_story(
        lives in prop::collection::vec(life(), 1..400),
        points in prop::collection::vec(any::<usize>(), 0..4),
        last_lives in any::<bool>(),
    ) {
        check(&lives, &points, last_lives)?;
    }
}

#[test]
fn what_is_kept_does_not_grow_with_what_happened() {
    let steady = Life {
        process: 1,
        seconds: 1,
        code: 0,
        again: false,
        exec: true,
        healthy: None,
        late: false,
        signalled: false,
        restart_within: false,
        restart_after: false,
        notice: true,
        tenure: true,
    };
    let sizes: Vec<usize> = [1_000, 4_000]
        .into_iter()
        .map(|runs| {
            compacted(&history(&vec![steady; runs], false), &[])
                .records
                .len()
        })
        .collect();
    assert_eq!(sizes[0], sizes[1]);
    assert!(sizes[0] < 3 * LISTED + NOTICES + 20, "{sizes:?}");
}
