//! What happens to the fake master's agents and tasks, as a test tells it. Each change returns the
//! events that are sent to the scheduler.

use super::{
    agent::{AgentState, is_live},
    core::Master,
    statuses::{master_status, update_event},
};
use crate::mesos::protocol::messages::{
    AgentId, TaskState, TaskStatus,
    scheduler::Event,
    task_status::{Reason, Source},
};

impl Master {
    /// The executor of a task reports a state.
    pub fn task_update(
        &mut self,
        id: &str,
        state: TaskState,
        healthy: Option<bool>,
        message: &str,
    ) -> Vec<Event> {
        self.counter += 1;
        let uuid = u128::from(self.counter).to_be_bytes().to_vec();
        for (name, agent) in &mut self.agents {
            let Some(task) = agent.tasks.get_mut(id) else {
                continue;
            };
            if !is_live(task.state) {
                return Vec::new();
            }
            (task.state, task.healthy) = (state, healthy);
            let status = TaskStatus {
                task_id: task.info.task_id.clone(),
                state: state.into(),
                healthy,
                agent_id: Some(AgentId {
                    value: name.clone(),
                }),
                source: Some(Source::Executor.into()),
                message: (!message.is_empty()).then(|| message.to_owned()),
                uuid: Some(uuid),
                ..TaskStatus::default()
            };
            task.news.push_back(status.clone());
            let is_heard = agent.state == AgentState::Registered && task.news.len() == 1;
            return match is_heard {
                true => vec![update_event(status)],
                false => Vec::new(),
            };
        }
        Vec::new()
    }

    /// Sends every update that waits for its acknowledgement again.
    pub fn resend(&self) -> Vec<Event> {
        let heard = self
            .agents
            .values()
            .filter(|agent| agent.state == AgentState::Registered);
        let tasks = heard.flat_map(|agent| agent.tasks.values());
        tasks
            .filter_map(|task| task.news.front().cloned().map(update_event))
            .collect()
    }

    /// An agent becomes unreachable; its tasks go on.
    pub fn lose(&mut self, name: &str) -> Vec<Event> {
        let mut events = self.rescind(Some(name));
        if let Some(agent) = self.agents.get_mut(name)
            && agent.state == AgentState::Registered
        {
            agent.state = AgentState::Unreachable;
            let live = agent.tasks.iter().filter(|(_, task)| is_live(task.state));
            let said = |id: &String| {
                master_status(id, name, TaskState::TaskUnreachable, Reason::AgentRemoved)
            };
            events.extend(live.map(|(id, _)| update_event(said(id))));
        }
        events
    }

    /// An unreachable agent comes back, with its tasks.
    pub fn reregister(&mut self, name: &str) -> Vec<Event> {
        let Some(agent) = self.agents.get_mut(name) else {
            return Vec::new();
        };
        let was_lost = std::mem::replace(&mut agent.state, AgentState::Registered);
        if was_lost == AgentState::Registered {
            return Vec::new();
        }
        let live = agent.tasks.iter().filter(|(_, task)| is_live(task.state));
        let mut events: Vec<Event> = live
            .map(|(id, task)| {
                update_event(TaskStatus {
                    healthy: task.healthy,
                    ..master_status(id, name, task.state, Reason::AgentReregistered)
                })
            })
            .collect();
        events.extend(
            agent
                .tasks
                .values()
                .filter_map(|task| task.news.front().cloned().map(update_event)),
        );
        events
    }

    /// An agent is destroyed with all tasks on it; an empty agent of the same name takes its place.
    pub fn destroy(&mut self, name: &str) -> Vec<Event> {
        let mut events = self.rescind(Some(name));
        let Some(agent) = self.agents.get_mut(name) else {
            return events;
        };
        agent.state = AgentState::Registered;
        for (id, task) in std::mem::take(&mut agent.tasks) {
            if is_live(task.state) {
                let gone = master_status(&id, name, TaskState::TaskGone, Reason::AgentRemoved);
                events.push(update_event(gone));
            }
        }
        events
    }

    /// Another master takes over. It knows no agent yet, and has no framework subscribed.
    pub fn fail_over(&mut self) {
        self.offers.clear();
        self.kills.clear();
        for agent in self.agents.values_mut() {
            agent.state = AgentState::Unknown;
        }
    }
}
