//! What comes from the agent: connections, events, and answers to what was sent.

use prost::Message;

use super::{
    core::ExecutorCore,
    interface::AgentEvent,
    task_entry::{Connection, budget_of},
    updates::Update,
};
use crate::{
    journal::{self, Kind},
    mesos::protocol::messages::{
        KillPolicy, TaskId, TaskInfo,
        executor::{Event, event},
    },
};

/// The first pause between subscriptions that fail, microseconds. It doubles.
const FIRST_PAUSE_US: u64 = 50_000;

impl ExecutorCore {
    /// Takes in what came from the agent at `now` microseconds of CLOCK_BOOTTIME.
    pub fn on_agent_event(&mut self, event: AgentEvent, now: u64) {
        match event {
            AgentEvent::Connected => {
                self.connection = Connection::Open;
                self.alone_since = None;
                self.was_connected = true;
                self.failures = 0;
                for entry in self.tasks.values_mut() {
                    // The subscription listed them.
                    entry.updates.iter_mut().for_each(|update| update.sent(now));
                }
            }
            AgentEvent::Event(event) => self.on_event(*event, now),
            AgentEvent::Disconnected(why) => {
                tracing::info!("no agent: {why}");
                // After a stream the next subscription follows at once, after a failure with
                // growing pauses.
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
            AgentEvent::Posted { uuid, refused } => {
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

    fn on_event(&mut self, event: Event, now: u64) {
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
            self.insert_task(task, group, info);
        }
    }

    fn kill(&mut self, id: &TaskId, policy: Option<&KillPolicy>) {
        let mut entries = self.tasks.values_mut();
        match entries.find(|entry| entry.info.task_id == *id) {
            Some(entry) => {
                let policy = policy.or(entry.info.kill_policy.as_ref());
                entry.kill = Some(budget_of(policy));
            }
            // The task ended long ago, or its launch was lost with a stream, of which the agent
            // knows.
            None => tracing::warn!("a kill for task {}, which is not here", id.value),
        }
    }
}
