//! Everything that the executor knows, and what its journal makes of it.
//!
//! This is the ground of the core: `agent_events` changes it by what the agent says, `decide` makes
//! actions of it, `calls` writes what is sent to the agent. The core is a function from records,
//! events and time to actions, without any I/O.
//!
//! Invariants: an update is sent only when its record is on disk; per task one at a time, in order,
//! until it is acknowledged; exactly one of them is terminal. What the agent did not say is never
//! invented: a KILL that was lost with a connection is not known here.

use std::collections::BTreeMap;

use prost::Message;

use super::{
    interface::Setting,
    task_entry::{Connection, Ending, TaskEntry, budget_of},
    updates::Update,
};
use crate::{
    journal::{self, Kind, Record},
    mesos::protocol::messages::{TaskInfo, TaskStatus},
};

/// Everything that the executor knows.
#[derive(Debug)]
pub(super) struct ExecutorCore {
    pub(super) setting: Setting,
    pub(super) agent_id: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) tasks: BTreeMap<u32, TaskEntry>,
    /// The number of the next task.
    pub(super) next: u32,
    /// The number of the next group.
    pub(super) next_group: u32,
    pub(super) connection: Connection,
    /// Since when there is no agent; microseconds of CLOCK_BOOTTIME.
    pub(super) alone_since: Option<u64>,
    /// An agent has accepted a subscription before.
    pub(super) was_connected: bool,
    /// Subscriptions in a row that failed.
    pub(super) failures: u32,
    pub(super) ending: Option<Ending>,
    /// Since when there is nothing to do; microseconds of CLOCK_BOOTTIME.
    pub(super) idle_since: u64,
    /// Records that were decided and not handed out yet.
    pub(super) notes: Vec<Kind>,
    /// The last action was handed out.
    pub(super) left: bool,
}

impl ExecutorCore {
    /// A core before its journal is replayed, at `now` microseconds of CLOCK_BOOTTIME.
    pub fn new(setting: Setting, now: u64) -> ExecutorCore {
        ExecutorCore {
            setting,
            agent_id: None,
            hostname: None,
            tasks: BTreeMap::new(),
            next: 1,
            next_group: 1,
            connection: Connection::None { retry_at: 0 },
            alone_since: Some(now),
            was_connected: false,
            failures: 0,
            ending: None,
            idle_since: now,
            notes: Vec::new(),
            left: false,
        }
    }

    /// The task's description; `None` for a number that was never accepted.
    pub fn info(&self, task: u32) -> Option<&TaskInfo> {
        self.tasks.get(&task).map(|entry| &entry.info)
    }

    /// The agent's host; `None` before the first subscription.
    pub fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref()
    }

    /// Takes in a record of the executor's journal, which is on disk.
    pub fn recorded(&mut self, record: &Record) {
        match &record.kind {
            Some(Kind::Subscribed(subscribed)) => {
                self.agent_id = Some(subscribed.agent_id.clone());
                self.hostname = Some(subscribed.hostname.clone());
                self.was_connected = true;
            }
            Some(Kind::Accepted(accepted)) => self.learn_task(accepted),
            Some(Kind::Update(update)) => {
                let Ok(status) = TaskStatus::decode(update.status.as_slice()) else {
                    return tracing::error!("an update in the journal cannot be read");
                };
                let Some(entry) = self.tasks.get_mut(&update.task) else {
                    return;
                };
                let mut known = entry.updates.iter_mut();
                match known.find(|known| known.uuid() == status.uuid()) {
                    Some(known) => known.recorded(),
                    None => {
                        let mut update = Update::new(status);
                        update.recorded();
                        entry.updates.push(update);
                    }
                }
            }
            Some(Kind::Acknowledged(acknowledged)) => {
                if let Some(update) = self.update(&acknowledged.uuid) {
                    update.acknowledged();
                }
            }
            _ => {}
        }
    }

    fn learn_task(&mut self, accepted: &journal::Accepted) {
        self.next = self.next.max(accepted.task + 1);
        self.next_group = self.next_group.max(accepted.group + 1);
        if self.tasks.contains_key(&accepted.task) {
            return;
        }
        match TaskInfo::decode(accepted.info.as_slice()) {
            Ok(info) => self.insert_task(accepted.task, accepted.group, info),
            Err(error) => tracing::error!("a task in the journal cannot be read: {error}"),
        }
    }

    pub(super) fn insert_task(&mut self, task: u32, group: u32, info: TaskInfo) {
        let entry = TaskEntry {
            info,
            group,
            updates: Vec::new(),
            is_opened: false,
            kill: None,
            ended_with_group: false,
            forgotten: false,
        };
        self.tasks.insert(task, entry);
    }

    pub(super) fn update(&mut self, uuid: &[u8]) -> Option<&mut Update> {
        let mut all = self.tasks.values_mut().flat_map(|entry| &mut entry.updates);
        all.find(|update| update.uuid() == uuid)
    }

    /// Begins to end everything, until `deadline` (microseconds of CLOCK_BOOTTIME).
    pub(super) fn end(&mut self, deadline: u64, has_agent: bool) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Ending {
            deadline,
            has_agent,
        });
        // A part of the time is kept for the updates that say how the tasks ended.
        let reserve = (self.setting.grace_us / 5).min(1_000_000);
        let budget = self.setting.grace_us - reserve;
        for entry in self.tasks.values_mut() {
            let own = budget_of(entry.info.kill_policy.as_ref());
            let wanted = own.map_or(budget, |own| own.min(budget));
            entry.kill = Some(Some(wanted));
        }
    }
}
