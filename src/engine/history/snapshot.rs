//! The snapshot that a compaction puts in the place of a task's old records.
//!
//! It keeps the records of the last hundred runs of every process as they were written, and all
//! records that are about the task itself; of earlier runs it has only the totals. Pure: a replay
//! in, a snapshot out. A replay of the snapshot leads to the same plan and the same history as the
//! records that it stands for. Who writes it, and when, is decided elsewhere (`growth.rs`).

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

/// The snapshot that stands for all records of `replay`.
pub(crate) fn snapshot(replay: &Replay, task: &Task) -> Snapshot {
    let cuts = cuts(&replay.records);
    let mut scan = Scan::new(&replay.records, &cuts);
    let mut kept = Vec::new();
    // The dropped records, replayed alone: of each process they are its first runs. What other
    // processes did meanwhile is not among them, so no process may wait for another one here.
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

/// A walk over the records in their order, which decides for each whether it is kept.
struct Scan<'c> {
    cuts: &'c BTreeMap<u32, u32>,
    /// The number of a process' live run, else of the run that comes next.
    present: BTreeMap<u32, u32>,
    /// How many records are still to come of each kind of which only the last ones are kept.
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
            // The snapshot of an earlier compaction: the new one says the same.
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
            Some(Kind::SignalSent(sent)) => self.has(sent.process, sent.run),
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
                // Readers of adoptions ask only whether there was more than one.
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
