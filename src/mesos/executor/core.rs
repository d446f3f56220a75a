//! The executor's decisions: a function from records, events and time to actions.
//!
//! Invariants: an update is sent only when its record is on disk; per task one at a time, in order,
//! until it is acknowledged; exactly one of them is terminal. What the agent did not say is never
//! invented: a KILL that was lost with a connection is not known here.

use std::collections::BTreeMap;

use prost::Message;

use super::{
    entry::{Connection, Ending, Entry, budget_of},
    interface::{Action, News, Setting, Standing, Words, World},
    terminal_update::check_status,
    updates::Update,
};
use crate::{
    journal::{self, Kind, Record},
    mesos::protocol::messages::{
        AgentId, ExecutorId, FrameworkId, KillPolicy, TaskId, TaskInfo, TaskState, TaskStatus,
        executor::{Call, Event, call, event},
        task_status::{Reason, Source},
    },
    sys::clock::Moment,
};

/// No task after this time: the launch went elsewhere. Microseconds.
const FIRST_TASK_US: u64 = 10_000_000;
/// Time for the last acknowledgement to be more than that, and for a next task. Microseconds.
const LINGER_US: u64 = 1_000_000;
/// How long a first subscription may take without checkpointing. Microseconds.
const FIRST_CONTACT_US: u64 = 60_000_000;
const FIRST_PAUSE_US: u64 = 50_000;

/// Everything that the executor knows.
#[derive(Debug)]
pub(super) struct Core {
    setting: Setting,
    agent_id: Option<String>,
    hostname: Option<String>,
    tasks: BTreeMap<u32, Entry>,
    next: u32,
    next_group: u32,
    connection: Connection,
    /// Since when there is no agent.
    alone_since: Option<u64>,
    was_connected: bool,
    failures: u32,
    ending: Option<Ending>,
    /// Since when there is nothing to do.
    idle_since: u64,
    notes: Vec<Kind>,
    left: bool,
}

impl Core {
    /// At `now` microseconds of CLOCK_BOOTTIME, before anything happened.
    pub fn new(setting: Setting, now: u64) -> Core {
        Core {
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

    /// The agent's host, as far as it is known.
    pub fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref()
    }

    /// A record of the executor's journal is on disk.
    pub fn recorded(&mut self, record: &Record) {
        match &record.kind {
            Some(Kind::Subscribed(subscribed)) => {
                self.agent_id = Some(subscribed.agent_id.clone());
                self.hostname = Some(subscribed.hostname.clone());
                self.was_connected = true;
            }
            Some(Kind::Accepted(accepted)) => self.know(accepted),
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

    fn know(&mut self, accepted: &journal::Accepted) {
        self.next = self.next.max(accepted.task + 1);
        self.next_group = self.next_group.max(accepted.group + 1);
        if self.tasks.contains_key(&accepted.task) {
            return;
        }
        match TaskInfo::decode(accepted.info.as_slice()) {
            Ok(info) => self.enter(accepted.task, accepted.group, info),
            Err(error) => tracing::error!("a task in the journal cannot be read: {error}"),
        }
    }

    fn enter(&mut self, task: u32, group: u32, info: TaskInfo) {
        let entry = Entry {
            info,
            group,
            updates: Vec::new(),
            begun: false,
            kill: None,
            ended_with_group: false,
            forgotten: false,
        };
        self.tasks.insert(task, entry);
    }

    fn update(&mut self, uuid: &[u8]) -> Option<&mut Update> {
        let mut all = self.tasks.values_mut().flat_map(|entry| &mut entry.updates);
        all.find(|update| update.uuid() == uuid)
    }

    /// Takes in what came from the agent's side.
    pub fn hear(&mut self, news: News, now: u64) {
        match news {
            News::Connected => {
                self.connection = Connection::Open;
                self.alone_since = None;
                self.was_connected = true;
                self.failures = 0;
                for entry in self.tasks.values_mut() {
                    // They were part of the subscription.
                    entry.updates.iter_mut().for_each(|update| update.sent(now));
                }
            }
            News::Event(event) => self.happened(*event, now),
            News::Disconnected(why) => {
                tracing::info!("no agent: {why}");
                // At once after a stream, then with growing pauses.
                let pause = match self.connection {
                    Connection::Open => 0,
                    _ => {
                        let pause = FIRST_PAUSE_US << self.failures.min(16);
                        self.failures += 1;
                        pause.min(self.setting.backoff_max_us)
                    }
                };
                self.connection = Connection::None {
                    retry_at: now + pause,
                };
                self.alone_since.get_or_insert(now);
                for entry in self.tasks.values_mut() {
                    entry.updates.iter_mut().for_each(Update::disconnected);
                }
            }
            News::Posted { uuid, refused } => {
                if let Some(update) = self.update(&uuid) {
                    match refused {
                        None => update.sent(now),
                        Some(why) => {
                            tracing::info!("an update is refused: {why}");
                            update.refused(now);
                        }
                    }
                }
            }
        }
    }

    fn happened(&mut self, event: Event, now: u64) {
        match event.r#type() {
            event::Type::Subscribed => {
                if let Some(subscribed) = event.subscribed {
                    let agent_id = subscribed.agent_info.id.map(|id| id.value);
                    self.subscribed(agent_id.unwrap_or_default(), subscribed.agent_info.hostname);
                }
            }
            event::Type::Launch => {
                if let Some(launch) = event.launch {
                    self.accept(vec![launch.task], 0);
                }
            }
            event::Type::LaunchGroup => {
                if let Some(launch) = event.launch_group {
                    let group = self.next_group;
                    self.next_group += 1;
                    self.accept(launch.task_group.tasks, group);
                }
            }
            event::Type::Kill => {
                if let Some(kill) = event.kill {
                    self.kill(&kill.task_id, kill.kill_policy.as_ref());
                }
            }
            event::Type::Acknowledged => {
                if let Some(acknowledged) = event.acknowledged {
                    let uuid = acknowledged.uuid;
                    let update = self.update(&uuid);
                    if let Some(update) = update.filter(|update| !update.is_acknowledged()) {
                        update.acknowledged();
                        let note = journal::Acknowledged { uuid };
                        self.notes.push(Kind::Acknowledged(note));
                        self.idle_since = now;
                    }
                }
            }
            event::Type::Shutdown => {
                tracing::info!("the agent wants everything to end");
                let deadline = now + self.setting.grace_us;
                self.end(deadline, true);
            }
            event::Type::Message => tracing::info!("a message of the framework, not understood"),
            event::Type::Error => {
                let error = event.error.map(|error| error.message);
                tracing::error!("the agent complains: {}", error.unwrap_or_default());
            }
            event::Type::Heartbeat => {}
            event::Type::Unknown => tracing::warn!("an event of an unknown type"),
        }
    }

    fn subscribed(&mut self, agent_id: String, hostname: String) {
        let is_news = self.agent_id.as_deref() != Some(agent_id.as_str());
        self.agent_id = Some(agent_id.clone());
        self.hostname = Some(hostname.clone());
        if is_news {
            self.notes
                .push(Kind::Subscribed(journal::Subscribed { agent_id, hostname }));
        }
    }

    fn accept(&mut self, tasks: Vec<TaskInfo>, group: u32) {
        for info in tasks {
            let mut known = self.tasks.values();
            if known.any(|entry| entry.info.task_id == info.task_id) {
                tracing::warn!("task {} is launched again", info.task_id.value);
                continue;
            }
            let task = self.next;
            self.next += 1;
            let note = journal::Accepted {
                task,
                info: info.encode_to_vec(),
                group,
            };
            self.notes.push(Kind::Accepted(note));
            self.enter(task, group, info);
        }
    }

    fn kill(&mut self, id: &TaskId, policy: Option<&KillPolicy>) {
        let mut entries = self.tasks.values_mut();
        match entries.find(|entry| entry.info.task_id == *id) {
            Some(entry) => {
                let policy = policy.or(entry.info.kill_policy.as_ref());
                entry.kill = Some(budget_of(policy));
            }
            // Over long ago, or launched on a stream that never reached us: then the agent knows.
            None => tracing::warn!("a kill for task {}, which is not here", id.value),
        }
    }

    /// A task that cannot be begun: its end.
    pub fn unfit(&mut self, task: u32, words: Words, now: Moment, world: &mut dyn World) {
        self.say(task, TaskState::TaskFailed, words, now, world);
    }

    /// Everything has to end until `deadline`.
    fn end(&mut self, deadline: u64, has_agent: bool) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Ending {
            deadline,
            has_agent,
        });
        // Time to say how it ended.
        let reserve = (self.setting.grace_us / 5).min(1_000_000);
        let budget = self.setting.grace_us - reserve;
        for entry in self.tasks.values_mut() {
            let own = budget_of(entry.info.kill_policy.as_ref());
            let wanted = own.map_or(budget, |own| own.min(budget));
            entry.kill = Some(Some(wanted));
        }
    }

    /// What to do at `now`, and when to ask again if nothing happens.
    pub fn decide(&mut self, now: Moment, world: &mut dyn World) -> (Vec<Action>, Option<u64>) {
        let clock = now.boot_us;
        let mut actions = Vec::new();
        self.end_alone(clock);
        let numbers: Vec<u32> = self.tasks.keys().copied().collect();
        for task in numbers {
            self.further(task, now, world, &mut actions);
        }
        self.end_groups();
        // Before everything else that is decided here: what is told must be recorded.
        let notes = std::mem::take(&mut self.notes);
        let noted = notes.into_iter().map(|kind| Action::Note(Box::new(kind)));
        actions.splice(0..0, noted);
        self.talk(clock, &mut actions);
        if !self.left && actions.is_empty() && self.may_leave(clock) {
            self.left = true;
            actions.push(Action::Leave);
        }
        (actions, self.wake_at(clock))
    }

    /// Nobody acknowledges any more: nothing may be left running.
    fn end_alone(&mut self, clock: u64) {
        if let Some(at) = self.alone_until()
            && clock >= at
        {
            tracing::warn!("no agent came back in time: ending everything");
            self.end(clock + self.setting.grace_us, false);
        }
    }

    fn alone_until(&self) -> Option<u64> {
        let since = self.alone_since?;
        Some(match (self.setting.recovery_us, self.was_connected) {
            (Some(recovery), _) => since + recovery,
            (None, false) => since + FIRST_CONTACT_US,
            (None, true) => since,
        })
    }

    /// What is next for one task.
    fn further(
        &mut self,
        task: u32,
        now: Moment,
        world: &mut dyn World,
        actions: &mut Vec<Action>,
    ) {
        let Some(entry) = self.tasks.get_mut(&task) else {
            return;
        };
        if entry.updates.is_empty() {
            self.say(task, TaskState::TaskStarting, Words::default(), now, world);
        }
        let Some(entry) = self.tasks.get_mut(&task) else {
            return;
        };
        match world.standing(task) {
            None if !entry.begun && !entry.is_terminal() => {
                if self.ending.is_some() || entry.kill.is_some() {
                    let words = Words {
                        message: Some("killed before it began".to_owned()),
                        reason: Some(Reason::TaskKilledDuringLaunch),
                        ..Words::default()
                    };
                    self.say(task, TaskState::TaskKilled, words, now, world);
                } else {
                    entry.begun = true;
                    actions.push(Action::Begin(task));
                }
            }
            None => {}
            Some(standing) => {
                if standing.end.is_none()
                    && let Some(budget_us) = entry.kill.take()
                {
                    actions.push(Action::Kill { task, budget_us });
                }
                let is_terminal = entry.is_terminal();
                if standing.has_started && !is_terminal && !entry.has(TaskState::TaskRunning) {
                    let words = world.words(task, TaskState::TaskRunning);
                    self.say(task, TaskState::TaskRunning, words, now, world);
                }
                self.report_check(task, standing, now, world);
                if let (Some(end), false) = (standing.end, is_terminal) {
                    let words = world.words(task, end);
                    self.say(task, end, words, now, world);
                }
            }
        }
        let entry = self.tasks.get_mut(&task).filter(|entry| entry.is_done());
        if let Some(entry) = entry
            && !std::mem::replace(&mut entry.forgotten, true)
        {
            actions.push(Action::Forget(task));
        }
    }

    /// A check that has another result is an update of its own, once the task is RUNNING.
    fn report_check(&mut self, task: u32, standing: Standing, now: Moment, world: &mut dyn World) {
        let Some(entry) = self.tasks.get(&task) else {
            return;
        };
        let (Some(check), Some(value)) = (&entry.info.check, standing.checked) else {
            return;
        };
        let status = check_status(check, value);
        let last = entry.updates.last();
        let is_known = last.is_some_and(|last| last.status.check_status.as_ref() == Some(&status));
        if is_known || !entry.has(TaskState::TaskRunning) || entry.is_terminal() {
            return;
        }
        let words = Words {
            reason: Some(Reason::TaskCheckStatusUpdated),
            ..world.words(task, TaskState::TaskRunning)
        };
        self.say(task, TaskState::TaskRunning, words, now, world);
    }

    /// A group lives and dies together: unless a member finished well, its end is everybody's.
    fn end_groups(&mut self) {
        let has_failed = |entry: &Entry| entry.is_terminal() && !entry.has(TaskState::TaskFinished);
        let all = self.tasks.values();
        let ended: Vec<u32> = all
            .filter(|entry| entry.group > 0 && has_failed(entry))
            .map(|entry| entry.group)
            .collect();
        for entry in self.tasks.values_mut() {
            if ended.contains(&entry.group) && !entry.is_terminal() && !entry.ended_with_group {
                entry.ended_with_group = true;
                entry.kill = Some(budget_of(entry.info.kill_policy.as_ref()));
            }
        }
    }

    fn say(
        &mut self,
        task: u32,
        state: TaskState,
        words: Words,
        now: Moment,
        world: &mut dyn World,
    ) {
        let Some(entry) = self.tasks.get_mut(&task) else {
            return;
        };
        if entry.is_terminal() {
            return;
        }
        let status = TaskStatus {
            task_id: entry.info.task_id.clone(),
            state: state.into(),
            data: words.data,
            message: words.message,
            agent_id: self.agent_id.clone().map(|value| AgentId { value }),
            timestamp: Some(now.wall_us as f64 / 1e6),
            executor_id: Some(ExecutorId {
                value: self.setting.executor_id.clone(),
            }),
            source: Some(Source::Executor.into()),
            reason: words.reason.map(Into::into),
            healthy: words.healthy,
            check_status: entry.info.check.as_ref().map(|check| {
                let standing = world.standing(task);
                check_status(
                    check,
                    standing.and_then(|standing| standing.checked).flatten(),
                )
            }),
            uuid: Some(world.uuid().to_vec()),
            ..TaskStatus::default()
        };
        let note = journal::Update {
            task,
            status: status.encode_to_vec(),
        };
        self.notes.push(Kind::Update(note));
        entry.updates.push(Update::new(status));
    }

    fn talk(&mut self, clock: u64, actions: &mut Vec<Action>) {
        match self.connection {
            Connection::None { retry_at } if clock >= retry_at && !self.is_giving_up() => {
                self.connection = Connection::Asked;
                actions.push(Action::Subscribe(Box::new(self.subscription())));
            }
            Connection::Open => {
                let mut calls = Vec::new();
                for entry in self.tasks.values_mut() {
                    let mut updates = entry.updates.iter_mut();
                    let next = updates.find(|update| !update.is_acknowledged());
                    if let Some(update) = next.filter(|update| update.is_recorded())
                        && update.take(clock)
                    {
                        calls.push((update.uuid().to_vec(), update.status.clone()));
                    }
                }
                for (uuid, status) in calls {
                    let call = Call {
                        r#type: Some(call::Type::Update.into()),
                        update: Some(call::Update { status }),
                        ..self.call()
                    };
                    actions.push(Action::Post {
                        uuid,
                        call: Box::new(call),
                    });
                }
            }
            _ => {}
        }
    }

    fn is_giving_up(&self) -> bool {
        self.ending.is_some_and(|ending| !ending.has_agent)
    }

    /// Tasks of which the agent knows no update yet, and updates that it has not acknowledged.
    fn subscription(&self) -> Call {
        let entries = self.tasks.values();
        let unknown = entries.clone().filter(|entry| {
            let mut updates = entry.updates.iter();
            !updates.any(Update::is_acknowledged)
        });
        let updates = entries.flat_map(|entry| &entry.updates);
        let unacknowledged =
            updates.filter(|update| update.is_recorded() && !update.is_acknowledged());
        Call {
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                unacknowledged_tasks: unknown.map(|entry| entry.info.clone()).collect(),
                unacknowledged_updates: unacknowledged
                    .map(|update| call::Update {
                        status: update.status.clone(),
                    })
                    .collect(),
            }),
            ..self.call()
        }
    }

    fn call(&self) -> Call {
        Call {
            executor_id: ExecutorId {
                value: self.setting.executor_id.clone(),
            },
            framework_id: FrameworkId {
                value: self.setting.framework_id.clone(),
            },
            ..Call::default()
        }
    }

    fn may_leave(&self, clock: u64) -> bool {
        let all_over = self.tasks.values().all(Entry::is_terminal);
        let all_done = self.tasks.values().all(Entry::is_done);
        match self.ending {
            Some(ending) if !ending.has_agent => all_over,
            Some(ending) => all_done || (all_over && clock >= ending.deadline),
            None => all_done && clock >= self.idle_until(),
        }
    }

    fn idle_until(&self) -> u64 {
        match self.tasks.is_empty() {
            true => self.idle_since + FIRST_TASK_US,
            false => self.idle_since + LINGER_US,
        }
    }

    fn wake_at(&self, clock: u64) -> Option<u64> {
        let retry = match self.connection {
            Connection::None { retry_at } if !self.is_giving_up() => Some(retry_at),
            _ => None,
        };
        let updates = self.tasks.values().filter_map(|entry| {
            let mut updates = entry.updates.iter();
            updates.find(|update| !update.is_acknowledged())?.due()
        });
        let updates = updates.filter(|_| self.connection == Connection::Open);
        let idle = self
            .tasks
            .values()
            .all(Entry::is_done)
            .then(|| self.idle_until());
        let ending = self.ending.map(|ending| ending.deadline);
        let alone = self.alone_until().filter(|_| self.ending.is_none());
        retry
            .into_iter()
            .chain(updates)
            .chain(idle.filter(|_| self.ending.is_none()))
            .chain(ending)
            .chain(alone)
            .filter(|at| *at > clock)
            .min()
    }
}
