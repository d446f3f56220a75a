//! The keeper's first report to a runner: which journals there are, and from which record on the
//! keeper tells of each.

use std::collections::HashMap;

use super::{
    error::{Distrust, RunnerError},
    running_task::RunningTask,
    steering::{Members, Steering},
};
use crate::{
    engine::{
        history::Growth,
        ipc::{JOURNAL, LinkError},
    },
    journal::{self, Features, JournalError, Kind, Replay, check_understood},
    protocols::dewar::link as wire,
};

/// The tasks and the group's journal, as the journals of a welcome tell them.
pub(super) struct Welcomed {
    pub tasks: Members,
    /// The group's own journal, if a steering has one: its path, and how it grows.
    pub group_journal: Option<(String, Growth)>,
}

/// Replays the journals that `welcome` names. Of its records, those that a replay had already are
/// removed; the others are told to their tasks.
pub(super) fn replay_journals(
    welcome: &mut wire::Report,
    steering: &mut Option<Box<dyn Steering>>,
    can: Features,
) -> Result<Welcomed, RunnerError> {
    let mut tasks = Members::new();
    let mut group_journal = None;
    let mut known: HashMap<u32, u64> = HashMap::new();
    for open in &welcome.journals {
        let replay = replay(open, welcome)?;
        check_understood(&replay.header, &replay.records)?;
        let count = replay.numbering.index(open.replay_to);
        // A compaction since may stand for some of the records that the report tells of.
        let ahead = replay.compacted_through().saturating_sub(open.replay_to);
        known.insert(open.task, ahead);
        match steering {
            Some(steering) if open.task == 0 => {
                let past = replay.records.iter().take(count);
                past.for_each(|record| steering.recorded(record));
                let path = format!("{}/{JOURNAL}", open.directory);
                group_journal = Some((path, Growth::of(count)));
            }
            _ => {
                let task = RunningTask::new(open.task, &open.directory, replay, count, can);
                tasks.insert(open.task, task.map_err(Distrust::Task)?);
            }
        }
    }
    welcome
        .records
        .retain(|numbered| !is_known(&mut known, numbered.task));
    for numbered in &welcome.records {
        if let (Some(task), Some(record)) = (tasks.get_mut(&numbered.task), &numbered.record) {
            task.learn_all(record);
        }
    }
    Ok(Welcomed {
        tasks,
        group_journal,
    })
}

/// Counts one more record of `task`; true when its replay had that record already.
fn is_known(known: &mut HashMap<u32, u64>, task: u32) -> bool {
    let Some(left) = known.get_mut(&task).filter(|left| **left > 0) else {
        return false;
    };
    *left -= 1;
    true
}

/// A journal; of a task that is just beginning, the header that the keeper is about to write there.
fn replay(open: &wire::OpenJournal, welcome: &wire::Report) -> Result<Replay, RunnerError> {
    if open.replay_to > 0 {
        let path = format!("{}/{JOURNAL}", open.directory);
        let read = journal::read(path.as_ref()).map_err(|error| match error {
            JournalError::Later { .. } => RunnerError::Later(error),
            error => Distrust::Journal(error).into(),
        })?;
        return Ok(read.ok_or(Distrust::Empty)?);
    }
    let mut told = welcome.records.iter();
    let first = told.find(|numbered| numbered.task == open.task);
    match first.and_then(|numbered| numbered.record.as_ref()?.kind.as_ref()) {
        Some(Kind::Header(header)) => Ok(Replay::of_header(header.clone())),
        _ => Err(LinkError::Contradiction("a new journal is told of without its header").into()),
    }
}
