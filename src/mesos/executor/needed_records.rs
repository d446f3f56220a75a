//! Which records of the executor's journal are still needed when it is compacted.
//!
//! A task needs none once it is over, its end is acknowledged and its journal closed; only the task
//! that was accepted last is kept, because the next task's number follows from it. Of a task that
//! goes on, every update that is not acknowledged is kept, and of the others the first of each
//! state and the last.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use prost::Message;

use crate::{
    journal::{Kind, Record},
    mesos::protocol::{is_terminal, messages::TaskStatus},
};

#[derive(Debug, Default)]
struct TaskRecords {
    is_open: bool,
    has_ended: bool,
    unacknowledged: usize,
    states: BTreeSet<i32>,
    last: Vec<u8>,
}

impl TaskRecords {
    fn is_done(&self) -> bool {
        self.has_ended && self.unacknowledged == 0 && !self.is_open
    }
}

/// Those of `records` (the header is not among them) that are needed, in their order.
pub(super) fn needed(records: &[Record]) -> Vec<Record> {
    let acknowledged: HashSet<&[u8]> = records
        .iter()
        .filter_map(|record| match &record.kind {
            Some(Kind::Acknowledged(acknowledged)) => Some(acknowledged.uuid.as_slice()),
            _ => None,
        })
        .collect();
    let mut tasks: BTreeMap<u32, TaskRecords> = BTreeMap::new();
    let mut last_accepted = 0;
    let mut last_subscribed = None;
    for (index, record) in records.iter().enumerate() {
        match &record.kind {
            Some(Kind::Accepted(accepted)) => last_accepted = accepted.task.max(last_accepted),
            Some(Kind::Opened(opened)) => tasks.entry(opened.task).or_default().is_open = true,
            Some(Kind::Closed(closed)) => tasks.entry(closed.task).or_default().is_open = false,
            Some(Kind::Subscribed(_)) => last_subscribed = Some(index),
            Some(Kind::Update(update)) => {
                let task_records = tasks.entry(update.task).or_default();
                if let Ok(status) = TaskStatus::decode(update.status.as_slice()) {
                    task_records.has_ended |= is_terminal(status.state());
                    task_records.unacknowledged +=
                        usize::from(!acknowledged.contains(status.uuid()));
                    task_records.last = status.uuid().to_vec();
                }
            }
            _ => {}
        }
    }
    let is_done =
        |task: u32| task != last_accepted && tasks.get(&task).is_some_and(TaskRecords::is_done);
    let done: BTreeSet<u32> = tasks
        .keys()
        .copied()
        .filter(|task| is_done(*task))
        .collect();
    let mut kept_updates: HashSet<Vec<u8>> = HashSet::new();
    let mut kept = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let keeps = match &record.kind {
            Some(Kind::Accepted(accepted)) => !done.contains(&accepted.task),
            Some(Kind::Opened(opened)) => !done.contains(&opened.task),
            Some(Kind::Closed(closed)) => !done.contains(&closed.task),
            Some(Kind::Subscribed(_)) => Some(index) == last_subscribed,
            Some(Kind::Update(update)) => match TaskStatus::decode(update.status.as_slice()) {
                Ok(status) if !done.contains(&update.task) => {
                    let task_records = tasks.entry(update.task).or_default();
                    let is_first = task_records.states.insert(status.state);
                    let uuid = status.uuid();
                    let keeps =
                        is_first || task_records.last == uuid || !acknowledged.contains(uuid);
                    if keeps {
                        kept_updates.insert(uuid.to_vec());
                    }
                    keeps
                }
                _ => false,
            },
            Some(Kind::Acknowledged(acknowledged)) => kept_updates.contains(&acknowledged.uuid),
            Some(Kind::Snapshot(_)) => false,
            _ => true,
        };
        if keeps {
            kept.push(record.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journal::{Accepted, Acknowledged, Closed, Opened, Update},
        mesos::protocol::messages::{TaskId, TaskState},
        sys::clock::Moment,
    };

    fn record(kind: Kind) -> Record {
        Record::new(Moment::default(), kind)
    }

    fn accepted(task: u32) -> Record {
        record(Kind::Accepted(Accepted {
            task,
            info: Vec::new(),
            group: 0,
        }))
    }

    fn opened(task: u32) -> Record {
        let directory = "/d".to_owned();
        record(Kind::Opened(Opened { task, directory }))
    }

    fn closed(task: u32) -> Record {
        record(Kind::Closed(Closed { task }))
    }

    fn update(task: u32, state: TaskState, uuid: u8) -> Record {
        let status = TaskStatus {
            task_id: TaskId {
                value: task.to_string(),
            },
            state: state.into(),
            uuid: Some(vec![uuid; 16]),
            ..TaskStatus::default()
        };
        record(Kind::Update(Update {
            task,
            status: status.encode_to_vec(),
        }))
    }

    fn acknowledged(uuid: u8) -> Record {
        let uuid = vec![uuid; 16];
        record(Kind::Acknowledged(Acknowledged { uuid }))
    }

    #[test]
    fn what_is_over_and_told_is_dropped_and_what_goes_on_is_kept() {
        use TaskState::{TaskFailed, TaskFinished, TaskRunning};
        let done = [
            accepted(1),
            opened(1),
            update(1, TaskFinished, 1),
            acknowledged(1),
            closed(1),
        ];
        // Its last update is not acknowledged; of the many before, the first and the last matter.
        let untold = [
            accepted(2),
            opened(2),
            update(2, TaskRunning, 2),
            acknowledged(2),
            update(2, TaskRunning, 3),
            acknowledged(3),
            update(2, TaskFailed, 4),
        ];
        let last = [
            accepted(3),
            opened(3),
            update(3, TaskFinished, 5),
            acknowledged(5),
            closed(3),
        ];
        let all: Vec<Record> = done.iter().chain(&untold).chain(&last).cloned().collect();
        let mut expected: Vec<Record> = untold.to_vec();
        expected.drain(4..6);
        expected.extend(last);
        assert_eq!(needed(&all), expected);
        assert_eq!(needed(&expected), expected, "once more changes nothing");
    }
}
