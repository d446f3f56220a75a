//! Which records of a task are still needed, and what is to be known of all others.
//!
//! The last hundred runs of every process are kept as they were written, and all that is about the
//! task itself; of earlier runs only what they have come to. Pure: a replay in, a snapshot out. A
//! replay of the snapshot leads to the same plan and the same history as what it stands for.

use std::collections::BTreeMap;

use super::{
    history::{LISTED, NOTICES},
    replay::facts_of,
};
use crate::{
    engine::plan::{Past, Plan},
    journal::{self, Cover, Kind, Record, Replay, Snapshot},
    task::Task,
};

/// A journal with fewer records than this is left alone.
const SMALL: usize = 4096;

/// When the journal of a task is to be compacted: when it has grown to twice what was left last
/// time, so that all compactions together cost no more than what was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    records: usize,
    limit: usize,
}

impl Growth {
    /// A journal that holds this many records.
    pub fn of(records: usize) -> Growth {
        Growth {
            records,
            limit: SMALL,
        }
    }

    /// One more.
    pub fn add(&mut self) {
        self.records += 1;
    }

    /// True when it is time.
    pub fn is_due(self) -> bool {
        self.records >= self.limit
    }

    /// It was compacted to this many records, or is about to be.
    pub fn compacted(&mut self, records: usize) {
        self.records = records;
        self.limit = (2 * records).max(SMALL);
    }
}

/// The snapshot that stands for all records of `replay`.
pub(crate) fn snapshot(replay: &Replay, task: &Task) -> Snapshot {
    let cuts = cuts(&replay.records);
    let mut scan = Scan::new(&replay.records, &cuts);
    let mut kept = Vec::new();
    // What is dropped, replayed alone: of each process these are its first runs. What others did
    // meanwhile is not among it, so nobody waits for anybody.
    let mut alone = task.clone();
    alone.constraints.clear();
    alone
        .processes
        .iter_mut()
        .for_each(|process| process.after.clear());
    let mut dropped = Plan::new(&alone, 0);
    let mut whole = Plan::new(task, 0);
    for record in replay.records.iter().skip(1) {
        for (fact, at) in facts_of(record) {
            whole.apply(&fact, at);
        }
        let keeps = scan.keeps(record);
        let is_stage = matches!(record.kind, Some(Kind::Stage(_)));
        if !keeps || is_stage {
            for (fact, at) in facts_of(record) {
                dropped.apply(&fact, at);
            }
        }
        if keeps {
            kept.push(record.clone());
        }
    }
    let processes = 0..task.processes.len();
    Snapshot {
        dropped: processes
            .map(|process| {
                let skipped = whole.past(process).skipped;
                let past = Past {
                    skipped,
                    ..dropped.past(process)
                };
                (process, past)
            })
            .filter(|(_, past)| *past != Past::default())
            .map(|(process, past)| totals(process, past))
            .collect(),
        kept,
        through: replay.total(),
    }
}

/// The first run of every process that is kept.
fn cuts(records: &[Record]) -> BTreeMap<u32, u32> {
    let mut cuts = BTreeMap::new();
    for record in records {
        if let Some(Kind::Start(start)) = &record.kind {
            let cut = (start.run + 1).saturating_sub(LISTED as u32);
            cuts.insert(start.process, cut);
        }
    }
    cuts
}

/// A walk over the records in their order.
struct Scan<'c> {
    cuts: &'c BTreeMap<u32, u32>,
    /// The live run of a process, else the one that comes next.
    present: BTreeMap<u32, u32>,
    /// What is still to come, of kinds of which only the last ones are kept.
    notices: usize,
    checks: usize,
    healths: usize,
    tenures: usize,
    adoptions: usize,
    boot_id: Option<String>,
}

impl<'c> Scan<'c> {
    fn new(records: &[Record], cuts: &'c BTreeMap<u32, u32>) -> Scan<'c> {
        let mut scan = Scan {
            cuts,
            present: BTreeMap::new(),
            notices: 0,
            checks: 0,
            healths: 0,
            tenures: 0,
            adoptions: 0,
            boot_id: None,
        };
        for record in records {
            match &record.kind {
                Some(Kind::Notice(_)) => scan.notices += 1,
                Some(Kind::Checked(_)) => scan.checks += 1,
                Some(Kind::Health(health)) if health.process.is_none() => scan.healths += 1,
                Some(Kind::Tenure(tenure)) => {
                    scan.tenures += 1;
                    scan.adoptions += usize::from(tenure.cover() == Cover::Whole);
                }
                _ => {}
            }
        }
        scan
    }

    fn has(&self, process: u32, run: u32) -> bool {
        self.cuts.get(&process).is_none_or(|cut| run >= *cut)
    }

    /// True when the record, which is the next one, is kept.
    fn keeps(&mut self, record: &Record) -> bool {
        match &record.kind {
            // The one of an earlier compaction: this one says the same.
            Some(Kind::Snapshot(_)) => false,
            Some(Kind::Start(start)) => {
                self.present.insert(start.process, start.run);
                self.has(start.process, start.run)
            }
            Some(Kind::End(end)) => {
                self.present.insert(end.process, end.run + 1);
                self.has(end.process, end.run)
            }
            Some(Kind::Again(again)) => self.has(again.process, again.run),
            Some(Kind::Exec(exec)) => self.has(exec.process, exec.run),
            Some(Kind::TimedOut(late)) => self.has(late.process, late.run),
            Some(Kind::Signal(signal)) => self.has(signal.process, signal.run),
            Some(Kind::Restart(restart)) => {
                let present = self.present.get(&restart.process).copied();
                self.has(restart.process, present.unwrap_or_default())
            }
            Some(Kind::Health(health)) => match health.process {
                Some(process) => self.has(process, health.run),
                None => {
                    self.healths -= 1;
                    self.healths == 0 || !health.healthy
                }
            },
            Some(Kind::Notice(_)) => {
                self.notices -= 1;
                self.notices < NOTICES
            }
            Some(Kind::Checked(_)) => {
                self.checks -= 1;
                self.checks == 0
            }
            Some(Kind::Tenure(tenure)) => {
                self.tenures -= 1;
                let is_adoption = tenure.cover() == Cover::Whole;
                self.adoptions -= usize::from(is_adoption);
                let is_new_boot = self.boot_id.as_ref() != Some(&tenure.boot_id);
                self.boot_id = Some(tenure.boot_id.clone());
                // Of adoptions it matters whether there was more than one.
                is_new_boot || self.tenures == 0 || (is_adoption && self.adoptions < 2)
            }
            _ => true,
        }
    }
}

fn totals(process: usize, past: Past) -> journal::Totals {
    journal::Totals {
        process: process as u32,
        success: past.totals.success,
        failed: past.totals.failed,
        killed: past.totals.killed,
        lost: past.totals.lost,
        forgiven_success: past.forgiven.success,
        forgiven_failed: past.forgiven.failed,
        forgiven_killed: past.forgiven.killed,
        forgiven_lost: past.forgiven.lost,
        streak: past.streak,
        started: past.started,
        healthy: past.healthy,
        finished: past.finished,
        failed_for_good: past.failed,
        skipped: past.skipped,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        engine::history::replay::Model,
        journal::{
            Again, Checked, End, Exec, FileStorage, Header, Health, How, Journal, KillRequest,
            Notice, Restart, Signal, Stage, Start, TaskState, Tenure, TimedOut, read,
        },
        sys::clock::Moment,
        task::{Backoff, Condition, Period, Process},
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

    /// The records of a task whose processes lived such lives; processes that failed for good are
    /// started again all the same, after a restart.
    fn history(lives: &[Life], last_lives: bool) -> Vec<Record> {
        let task = task();
        let mut model = Plan::new(&task, 0);
        let mut clock = 1_000_000u64;
        let mut records: Vec<Record> = Vec::new();
        let mut say = |clock: &mut u64, model: &mut Plan, kind: Kind| {
            *clock += 1_000;
            let at = Moment {
                boot_us: *clock,
                wall_us: 1_790_000_000_000_000 + *clock,
            };
            let record = Record::new(at, kind);
            for (fact, at) in facts_of(&record) {
                model.apply(&fact, at);
            }
            records.push(record);
        };
        let header = Header {
            version: 1,
            task_id: "t".to_owned(),
            task: serde_json::to_string(&task).unwrap(),
            ..Header::default()
        };
        say(&mut clock, &mut model, Kind::Header(header));
        let tenure = |boot: &str, cover: Cover| {
            Kind::Tenure(Tenure {
                boot_id: boot.to_owned(),
                keeper_pid: 1,
                cover: cover.into(),
            })
        };
        say(&mut clock, &mut model, tenure("one", Cover::Whole));
        let active = Stage {
            state: TaskState::Active.into(),
            outcome: TaskState::Success.into(),
            ..Stage::default()
        };
        say(&mut clock, &mut model, Kind::Stage(active));
        let mut next = [0u32; 3];
        for (index, life) in lives.iter().enumerate() {
            let (process, run) = (life.process, next[life.process as usize]);
            next[life.process as usize] += 1;
            let restart = Kind::Restart(Restart { process });
            let is_over = !model.may_start(process as usize);
            if life.restart_after || is_over {
                say(&mut clock, &mut model, restart.clone());
            }
            if life.tenure {
                let cover = if index % 2 == 0 {
                    Cover::Whole
                } else {
                    Cover::Used
                };
                say(&mut clock, &mut model, tenure("one", cover));
            }
            let start = Start {
                process,
                run,
                pid: 100 + run,
                start_ticks: clock,
                ..Start::default()
            };
            say(&mut clock, &mut model, Kind::Start(start));
            if life.again {
                let again = Again {
                    process,
                    run,
                    pid: 200 + run,
                    start_ticks: clock,
                    ..Again::default()
                };
                say(&mut clock, &mut model, Kind::Again(again));
            }
            if life.exec {
                say(&mut clock, &mut model, Kind::Exec(Exec { process, run }));
            }
            if let Some(healthy) = life.healthy {
                let health = Health {
                    process: Some(process),
                    run,
                    healthy,
                    reason: "no".to_owned(),
                };
                say(&mut clock, &mut model, Kind::Health(health));
                let health = Health {
                    process: None,
                    run: 0,
                    healthy: true,
                    reason: String::new(),
                };
                say(&mut clock, &mut model, Kind::Health(health));
                let value = Some(index as i32);
                say(&mut clock, &mut model, Kind::Checked(Checked { value }));
            }
            if life.signalled {
                let signal = Signal {
                    process,
                    run,
                    signal: 1,
                };
                say(&mut clock, &mut model, Kind::Signal(signal));
            }
            if life.late {
                let late = TimedOut {
                    process,
                    run,
                    after_us: 5,
                };
                say(&mut clock, &mut model, Kind::TimedOut(late));
            }
            if life.restart_within {
                say(&mut clock, &mut model, restart);
            }
            if life.notice {
                let notice = Notice {
                    text: format!("notice {index}"),
                    process: Some(process),
                    run: Some(run),
                };
                say(&mut clock, &mut model, Kind::Notice(notice));
            }
            clock += life.seconds * 1_000_000;
            if !(last_lives && index + 1 == lives.len()) {
                let end = End {
                    process,
                    run,
                    how: Some(How::Exited(life.code)),
                    ..End::default()
                };
                say(&mut clock, &mut model, Kind::End(end));
            }
        }
        if !last_lives && lives.len().is_multiple_of(3) {
            let kill = KillRequest {
                now: false,
                budget_us: Some(5),
                reason: String::new(),
            };
            say(&mut clock, &mut model, Kind::Kill(kill));
        }
        records
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
                plan.standing(process),
                plan.counts(process),
                plan.needs(process).collect::<Vec<_>>(),
                plan.state(),
                plan.live(),
            )
        });
        let mut status = model.history.status(plan, "", [None; 3]);
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
}
