//! What a journal says of processes that may still live: pure, from records to runs, groups and
//! inits.

use std::collections::BTreeMap;

use crate::{
    journal::{Cover, Init, Kind, Record},
    sys::process,
};

/// A run that has begun and not ended, as the journal knows it.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) pid: i32,
    pub(super) start_ticks: u64,
    pub(super) exec: bool,
    pub(super) group: Option<Box<str>>,
    pub(super) limited: bool,
    /// How many processes that the kernel killed for memory have been told of.
    pub(super) kills_told: u64,
    /// The signals that clients asked for, oldest first, as far as a successor has to send them.
    pub(super) signals: Vec<u32>,
    /// How many of these were sent.
    pub(super) signals_sent: u32,
}

/// (process, run), within one task.
pub(super) type OfTask = (u32, u32);

/// The runs without an end, and per process the next run's number.
pub(super) fn fold(records: &[Record]) -> (BTreeMap<OfTask, Open>, BTreeMap<u32, u32>) {
    let mut open: BTreeMap<OfTask, Open> = BTreeMap::new();
    let mut next_run: BTreeMap<u32, u32> = BTreeMap::new();
    for record in records {
        match &record.kind {
            Some(Kind::Start(start)) => {
                let next = next_run.entry(start.process).or_default();
                *next = (*next).max(start.run + 1);
                let key = (start.process, start.run);
                let groups = (start.group.as_str(), start.tracked.as_str());
                open.insert(key, begun(start.pid, start.start_ticks, groups));
            }
            Some(Kind::Again(again)) => {
                let key = (again.process, again.run);
                let groups = (again.group.as_str(), again.tracked.as_str());
                let run = begun(again.pid, again.start_ticks, groups);
                // They were for a process that never began.
                let signals = open.remove(&key).map_or_else(Vec::new, |run| run.signals);
                let run = Open {
                    signals_sent: signals.len() as u32,
                    signals,
                    ..run
                };
                open.insert(key, run);
            }
            Some(Kind::Exec(exec)) => {
                if let Some(run) = open.get_mut(&(exec.process, exec.run)) {
                    run.exec = true;
                }
            }
            Some(Kind::Notice(notice)) => {
                let key = (
                    notice.process.unwrap_or_default(),
                    notice.run.unwrap_or_default(),
                );
                if let Some(run) = open.get_mut(&key) {
                    run.kills_told += notice.oom_kills;
                }
            }
            Some(Kind::Signal(signal)) if signal.is_owed => {
                if let Some(run) = open.get_mut(&(signal.process, signal.run)) {
                    run.signals.push(signal.signal);
                }
            }
            Some(Kind::SignalSent(sent)) => {
                if let Some(run) = open.get_mut(&(sent.process, sent.run)) {
                    run.signals_sent = run.signals_sent.max(sent.count);
                }
            }
            Some(Kind::End(end)) => {
                open.remove(&(end.process, end.run));
            }
            Some(Kind::Snapshot(snapshot)) => {
                let (kept_open, kept_next) = fold(&snapshot.kept);
                open.extend(kept_open);
                next_run.extend(kept_next);
                for dropped in &snapshot.dropped {
                    let runs = dropped.success + dropped.failed + dropped.killed + dropped.lost;
                    let next = next_run.entry(dropped.process).or_default();
                    *next = (*next).max(runs);
                }
            }
            _ => {}
        }
    }
    (open, next_run)
}

/// The runs that have a group, open or ended, by its name below the task's.
pub(super) fn group_names(records: &[Record]) -> BTreeMap<&str, OfTask> {
    let mut names = BTreeMap::new();
    for record in records {
        let (of, limited, tracked) = match &record.kind {
            Some(Kind::Start(start)) => ((start.process, start.run), &start.group, &start.tracked),
            Some(Kind::Again(again)) => ((again.process, again.run), &again.group, &again.tracked),
            Some(Kind::Snapshot(snapshot)) => {
                names.extend(group_names(&snapshot.kept));
                continue;
            }
            _ => continue,
        };
        for name in [limited, tracked]
            .into_iter()
            .filter(|name| !name.is_empty())
        {
            names.insert(name.as_str(), of);
        }
    }
    names
}

/// The last record since the machine was started for which `find` gives something.
fn last_of_boot<'r, T>(
    records: &'r [Record],
    find: &dyn Fn(&'r Kind) -> Option<T>,
) -> std::ops::ControlFlow<Option<T>> {
    use std::ops::ControlFlow::{Break, Continue};
    let boot_id = process::boot_id();
    for record in records.iter().rev() {
        match &record.kind {
            // What is older is of another boot: names and pids are given anew.
            Some(Kind::Tenure(tenure)) if tenure.boot_id != boot_id => return Break(None),
            Some(Kind::Snapshot(snapshot)) => last_of_boot(&snapshot.kept, find)?,
            Some(kind) => {
                if let Some(found) = find(kind) {
                    return Break(Some(found));
                }
            }
            None => {}
        }
    }
    Continue(())
}

/// The cgroups that were made for the task, the last time: directories and inode numbers.
pub(super) fn groups(records: &[Record]) -> Option<Vec<(String, u64)>> {
    let find = |kind: &Kind| match kind {
        Kind::Groups(groups) => {
            let inodes = groups.inodes.iter().copied().chain(std::iter::repeat(0));
            Some(groups.directories.iter().cloned().zip(inodes).collect())
        }
        _ => None,
    };
    last_of_boot(records, &find).break_value().flatten()
}

/// The init of the task's namespaces, the last one.
pub(super) fn last_init(records: &[Record]) -> Option<Init> {
    let find = |kind: &Kind| match kind {
        Kind::Init(init) => Some(*init),
        _ => None,
    };
    last_of_boot(records, &find).break_value().flatten()
}

fn begun(pid: u32, start_ticks: u64, (limited, tracked): (&str, &str)) -> Open {
    let group = match limited {
        "" => tracked,
        limited => limited,
    };
    Open {
        pid: pid as i32,
        start_ticks,
        exec: false,
        group: (!group.is_empty()).then(|| group.into()),
        limited: !limited.is_empty(),
        kills_told: 0,
        signals: Vec::new(),
        signals_sent: 0,
    }
}

pub(super) fn first_processes(records: &[Record]) -> Vec<(i32, u64)> {
    let begun = records.iter().filter_map(|record| match &record.kind {
        Some(Kind::Start(start)) if start.pid != 0 => Some((start.pid as i32, start.start_ticks)),
        Some(Kind::Again(again)) => Some((again.pid as i32, again.start_ticks)),
        _ => None,
    });
    begun.collect()
}

/// A keeper with a fresh root above it: all but the first found processes that are not theirs.
pub(super) fn is_adoption(record: &&Record) -> bool {
    matches!(&record.kind, Some(Kind::Tenure(tenure)) if tenure.cover() == Cover::Whole)
}

pub(super) fn last_boot(records: &[Record]) -> Option<String> {
    let tenures = records
        .iter()
        .rev()
        .filter_map(|record| match &record.kind {
            Some(Kind::Tenure(tenure)) => Some(tenure.boot_id.clone()),
            _ => None,
        });
    tenures.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journal::{Again, End, Notice, Signal, SignalSent, Snapshot, Start},
        sys::clock::now,
    };

    /// The open runs after these records.
    fn open(kinds: Vec<Kind>) -> BTreeMap<OfTask, Open> {
        let record = |kind| Record::new(now(), kind);
        fold(&kinds.into_iter().map(record).collect::<Vec<_>>()).0
    }

    fn start() -> Kind {
        Kind::Start(Start {
            pid: 7,
            ..Start::default()
        })
    }

    fn signal(signal: u32, is_owed: bool) -> Kind {
        Kind::Signal(Signal {
            signal,
            is_owed,
            ..Signal::default()
        })
    }

    fn sent(count: u32) -> Kind {
        Kind::SignalSent(SignalSent {
            count,
            ..SignalSent::default()
        })
    }

    #[test]
    fn signals_are_owed_until_they_were_sent_and_those_of_earlier_versions_never() {
        let run = &open(vec![
            start(),
            signal(1, false),
            signal(10, true),
            signal(12, true),
            sent(1),
        ]);
        let run = &run[&(0, 0)];
        assert_eq!(
            (run.signals.as_slice(), run.signals_sent),
            ([10, 12].as_slice(), 1)
        );
        // The process that they were for never began.
        let again = Kind::Again(Again::default());
        let run = &open(vec![start(), signal(10, true), again, signal(12, true)]);
        let run = &run[&(0, 0)];
        assert_eq!(
            (run.signals.as_slice(), run.signals_sent),
            ([10, 12].as_slice(), 1)
        );
        let end = Kind::End(End::default());
        assert!(open(vec![start(), signal(10, true), end]).is_empty());
        // A compaction changes nothing.
        let kept = [start(), signal(10, true), sent(1)].map(|kind| Record::new(now(), kind));
        let snapshot = Snapshot {
            kept: kept.to_vec(),
            ..Snapshot::default()
        };
        let run = &open(vec![Kind::Snapshot(snapshot), signal(12, true)]);
        let run = &run[&(0, 0)];
        assert_eq!(
            (run.signals.as_slice(), run.signals_sent),
            ([10, 12].as_slice(), 1)
        );
    }

    #[test]
    fn kills_for_memory_that_were_told_are_counted() {
        let told = |oom_kills| {
            Kind::Notice(Notice {
                process: Some(0),
                run: Some(0),
                oom_kills,
                ..Notice::default()
            })
        };
        assert_eq!(
            open(vec![start(), told(2), told(0), told(1)])[&(0, 0)].kills_told,
            3
        );
    }
}
