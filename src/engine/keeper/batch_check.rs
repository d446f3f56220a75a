//! What of a runner's batch is believed: everything, or nothing of it.
//!
//! A batch that cannot be meant is found before any of it has an effect. It says that the link or
//! its runner is broken; the journal and the task are as they were.

use prost::Message;

use crate::{
    engine::ipc::LinkError,
    journal::Kind,
    protocols::dewar::{link as wire, link::command::Kind as Command},
};

/// The largest note, bytes: a journal's frame holds one of this size, with what else is due.
const LARGEST_NOTE: usize = 63 << 20;

/// Finds what cannot be meant in `batch`, which came after `reports` reports to its runner.
///
/// # Errors
/// What contradicts itself or the keeper.
pub(super) fn check(batch: &wire::Batch, reports: u64) -> Result<(), LinkError> {
    let contradiction = |what| Err(LinkError::Contradiction(what));
    if batch.answers > reports {
        return contradiction("it answers a report that was never sent");
    }
    for note in &batch.notes {
        let Some(record) = &note.record else {
            return contradiction("a note has no record");
        };
        match &record.kind {
            None => return contradiction("a note is of a kind that is not known"),
            Some(kind) if is_own(kind) => {
                return contradiction("a note says what only the keeper knows");
            }
            Some(_) if record.encoded_len() > LARGEST_NOTE => {
                return contradiction("a note is larger than a journal takes");
            }
            Some(_) => {}
        }
    }
    for command in &batch.commands {
        match &command.kind {
            // A newer runner may ask for what this keeper cannot do: it is told so.
            None => {}
            Some(Command::Open(open)) if open.header.is_none() => {
                return contradiction("a task is to begin without a header");
            }
            Some(Command::Open(open)) if open.directory.is_empty() => {
                return contradiction("a task is to begin in no directory");
            }
            Some(Command::Probe(probe)) if probe.launch.is_none() => {
                return contradiction("a health check has no command");
            }
            Some(Command::Compact(compact)) if !is_snapshot(compact) => {
                return contradiction("a compaction has no snapshot");
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Records that a keeper writes by itself: of processes, and of its own life.
fn is_own(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Header(_)
            | Kind::Tenure(_)
            | Kind::Start(_)
            | Kind::Again(_)
            | Kind::Exec(_)
            | Kind::End(_)
            | Kind::Groups(_)
            | Kind::Init(_)
            | Kind::Opened(_)
            | Kind::Closed(_)
            | Kind::Snapshot(_)
            | Kind::SignalSent(_)
    )
}

fn is_snapshot(compact: &wire::Compact) -> bool {
    let snapshot = compact.snapshot.as_ref();
    snapshot.is_some_and(|record| matches!(record.kind, Some(Kind::Snapshot(_))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journal::{Header, Notice, Record, Start},
        sys::clock::now,
    };

    fn of_command(kind: Option<Command>) -> wire::Batch {
        wire::Batch {
            commands: vec![wire::Command { kind, task: 0 }],
            ..wire::Batch::default()
        }
    }

    fn of_note(record: Option<Record>) -> wire::Batch {
        wire::Batch {
            notes: vec![wire::Numbered {
                record,
                ..wire::Numbered::default()
            }],
            ..wire::Batch::default()
        }
    }

    fn open(directory: &str, header: Option<Header>) -> wire::Batch {
        of_command(Some(Command::Open(wire::Open {
            directory: directory.to_owned(),
            header,
        })))
    }

    #[test]
    fn what_a_runner_may_say_is_believed() {
        let notice = Record::new(now(), Kind::Notice(Notice::default()));
        let answer = wire::Batch {
            answers: 3,
            ..wire::Batch::default()
        };
        for batch in [
            wire::Batch::default(),
            of_note(Some(notice)),
            of_command(Some(Command::KillAll(wire::KillAll {}))),
            // A newer runner's.
            of_command(None),
            open("/there", Some(Header::default())),
            answer,
        ] {
            check(&batch, 3).unwrap();
        }
    }

    #[test]
    fn a_batch_that_cannot_be_meant_is_an_error() {
        let start = Record::new(now(), Kind::Start(Start::default()));
        let notice = Record::new(now(), Kind::Notice(Notice::default()));
        let compact = wire::Compact {
            snapshot: Some(notice),
        };
        let answer = wire::Batch {
            answers: 4,
            ..wire::Batch::default()
        };
        for batch in [
            of_note(None),
            of_note(Some(Record::default())),
            of_note(Some(start)),
            of_command(Some(Command::Probe(wire::Probe::default()))),
            of_command(Some(Command::Compact(wire::Compact::default()))),
            of_command(Some(Command::Compact(compact))),
            open("/there", None),
            open("", Some(Header::default())),
            answer,
        ] {
            let error = check(&batch, 3).unwrap_err();
            assert!(matches!(error, LinkError::Contradiction(_)), "{error}");
        }
    }
}
