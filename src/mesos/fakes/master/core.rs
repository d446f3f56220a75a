//! What the fake master decides: how it answers calls, and which offers it makes.
//!
//! A function from calls to refusals and events, without sockets. What happens to tasks and agents
//! comes from outside (`changes`). The master records what no scheduler may do (see
//! [`Master::violations`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    agent::{Agent, AgentSpec, AgentState, Task, is_live},
    resource_totals::ResourceTotals,
    statuses::update_event,
};
use crate::mesos::protocol::{
    self,
    messages::{
        AgentId, Attribute, FrameworkId, Offer, OfferId, Resource, TaskId, TaskInfo, TaskState,
        TaskStatus,
        scheduler::{Call, Event, call, event},
        task_status::{Reason, Source},
        value,
    },
};

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status code of HTTP.
    pub status: u16,
    /// What the answer says.
    pub why: String,
}

/// A master and its agents, without sockets.
#[derive(Debug, Default)]
pub struct Master {
    pub(super) framework: Option<String>,
    pub(super) agents: BTreeMap<String, Agent>,
    /// The agent and the resources of each open offer, by the offer's id.
    pub(super) offers: BTreeMap<String, (String, Vec<Resource>)>,
    pub(super) counter: u64,
    pub(super) is_suppressed: bool,
    /// What the scheduler did that no scheduler may do, as texts.
    pub(super) violations: Vec<String>,
    /// How often each offer was answered.
    pub(super) answered: BTreeMap<String, u32>,
    /// The ids of all tasks that were ever launched.
    pub(super) launched: BTreeSet<String>,
    /// The ids of tasks that the scheduler has asked to kill.
    pub(super) kills: VecDeque<String>,
}

impl Master {
    /// Makes a master with these agents.
    pub fn new(agents: &[AgentSpec]) -> Master {
        let mut master = Master::default();
        for spec in agents {
            master.add_agent(spec.clone());
        }
        master
    }

    /// Adds an agent.
    pub fn add_agent(&mut self, spec: AgentSpec) {
        let agent = Agent {
            state: AgentState::Registered,
            tasks: BTreeMap::new(),
            filtered_until: 0,
            spec,
        };
        self.agents.insert(agent.spec.name.clone(), agent);
    }

    /// What the scheduler did that no scheduler may do.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// How many offers are not answered yet.
    pub fn outstanding(&self) -> usize {
        self.offers.len()
    }

    /// The ids of the agents.
    pub fn agents(&self) -> Vec<String> {
        self.agents.keys().cloned().collect()
    }

    /// Live tasks with their agents and states, those on unreachable agents included.
    pub fn tasks(&self) -> Vec<(String, String, TaskState)> {
        let mut all = Vec::new();
        for (name, agent) in &self.agents {
            for (id, task) in &agent.tasks {
                if is_live(task.state) {
                    all.push((id.clone(), name.clone(), task.state));
                }
            }
        }
        all
    }

    /// The description with which a task was launched.
    pub fn info(&self, id: &str) -> Option<&TaskInfo> {
        let mut tasks = self.agents.values().flat_map(|agent| &agent.tasks);
        tasks
            .find(|(known, _)| *known == id)
            .map(|(_, task)| &task.info)
    }

    /// Takes the next task that the scheduler has asked to kill, if its agent can be reached.
    pub fn next_kill(&mut self) -> Option<String> {
        self.kills.pop_front()
    }

    /// Answers a call with events for the stream.
    ///
    /// # Errors
    /// If a real master would refuse the call.
    pub fn call(&mut self, call: &Call, now: u64) -> Result<Vec<Event>, Refusal> {
        let bad = |why: &str| Refusal {
            status: 400,
            why: why.to_owned(),
        };
        if call.r#type() == call::Type::Subscribe {
            return self.subscribe(call);
        }
        let ours = self.framework.as_ref().is_some_and(|id| {
            call.framework_id
                .as_ref()
                .is_some_and(|its| its.value == *id)
        });
        if !ours {
            return Err(Refusal {
                status: 403,
                why: "Framework is not subscribed".to_owned(),
            });
        }
        match call.r#type() {
            call::Type::Accept => {
                let accept = call.accept.as_ref().ok_or_else(|| bad("no accept"))?;
                Ok(self.accept(accept, now))
            }
            call::Type::Decline => {
                let decline = call.decline.as_ref().ok_or_else(|| bad("no decline"))?;
                let refuse = refusal_ms(decline.filters.as_ref());
                for id in &decline.offer_ids {
                    self.answer(&id.value, now + refuse);
                }
                Ok(Vec::new())
            }
            call::Type::Kill => {
                let kill = call.kill.as_ref().ok_or_else(|| bad("no kill"))?;
                Ok(self.kill(&kill.task_id.value, kill.agent_id.as_ref()))
            }
            call::Type::Acknowledge => {
                let ack = call
                    .acknowledge
                    .as_ref()
                    .ok_or_else(|| bad("no acknowledge"))?;
                Ok(self.acknowledge(&ack.task_id.value, &ack.uuid))
            }
            call::Type::Reconcile => {
                let reconcile = call.reconcile.as_ref().ok_or_else(|| bad("no reconcile"))?;
                Ok(self.reconcile(reconcile))
            }
            call::Type::Suppress => {
                self.is_suppressed = true;
                Ok(Vec::new())
            }
            call::Type::Revive => {
                self.is_suppressed = false;
                for agent in self.agents.values_mut() {
                    agent.filtered_until = 0;
                }
                Ok(Vec::new())
            }
            other => Err(Refusal {
                status: 501,
                why: format!("{} is not spoken here", other.as_str_name()),
            }),
        }
    }

    fn subscribe(&mut self, call: &Call) -> Result<Vec<Event>, Refusal> {
        let given = call.framework_id.as_ref().map(|id| id.value.clone());
        let info = call.subscribe.as_ref().map(|one| &one.framework_info);
        let inside = info.and_then(|info| info.id.as_ref().map(|id| id.value.clone()));
        if given != inside {
            return Err(Refusal {
                status: 400,
                why: "Framework id in the call does not match the one in the info".to_owned(),
            });
        }
        let id = match (given, &self.framework) {
            (Some(id), _) => id,
            // Without an id it is a new framework; a scheduler that has tasks must not lose its id.
            (None, _) => {
                if !self.launched.is_empty() {
                    self.violations
                        .push("subscribed anew without its framework id".to_owned());
                }
                self.counter += 1;
                format!("framework-{}", self.counter)
            }
        };
        self.framework = Some(id.clone());
        self.offers.clear();
        self.is_suppressed = false;
        for agent in self.agents.values_mut() {
            agent.filtered_until = 0;
        }
        Ok(vec![Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(event::Subscribed {
                framework_id: FrameworkId { value: id },
                heartbeat_interval_seconds: None,
                master_info: None,
            }),
            ..Event::default()
        }])
    }

    /// Offers all resources that may be offered.
    pub fn offer(&mut self, now: u64) -> Vec<Event> {
        if self.is_suppressed || self.framework.is_none() {
            return Vec::new();
        }
        let framework = self.framework.clone().unwrap_or_default();
        let offered: BTreeSet<String> = self
            .offers
            .values()
            .map(|(agent, _)| agent.clone())
            .collect();
        let mut offers = Vec::new();
        for (name, agent) in &self.agents {
            let is_free = agent.state == AgentState::Registered
                && agent.filtered_until <= now
                && !offered.contains(name);
            if !is_free {
                continue;
            }
            let resources = agent.free();
            if resources.is_empty() {
                continue;
            }
            self.counter += 1;
            let id = format!("offer-{}", self.counter);
            self.offers
                .insert(id.clone(), (name.clone(), resources.clone()));
            offers.push(Offer {
                id: OfferId { value: id },
                framework_id: FrameworkId {
                    value: framework.clone(),
                },
                agent_id: AgentId {
                    value: name.clone(),
                },
                hostname: name.clone(),
                resources,
                attributes: agent.spec.attributes.iter().map(attribute).collect(),
                ..Offer::default()
            });
        }
        if offers.is_empty() {
            return Vec::new();
        }
        vec![Event {
            r#type: Some(event::Type::Offers.into()),
            offers: Some(event::Offers { offers }),
            ..Event::default()
        }]
    }

    /// Takes back the offers of an agent, or all offers.
    pub fn rescind(&mut self, agent: Option<&str>) -> Vec<Event> {
        let wanted = |name: &str| agent.is_none_or(|agent| agent == name);
        let ids: Vec<String> = self
            .offers
            .iter()
            .filter(|(_, (name, _))| wanted(name))
            .map(|(id, _)| id.clone())
            .collect();
        let events = ids.iter().map(|id| Event {
            r#type: Some(event::Type::Rescind.into()),
            rescind: Some(event::Rescind {
                offer_id: OfferId { value: id.clone() },
            }),
            ..Event::default()
        });
        let events = events.collect();
        self.offers.retain(|id, _| !ids.contains(id));
        events
    }

    /// An offer is answered; `None` when it is not open (any more).
    fn answer(&mut self, id: &str, until: u64) -> Option<(String, Vec<Resource>)> {
        let count = self.answered.entry(id.to_owned()).or_default();
        *count += 1;
        if *count > 1 {
            self.violations.push(format!("{id} was answered twice"));
        }
        let (name, resources) = self.offers.remove(id)?;
        if let Some(agent) = self.agents.get_mut(&name) {
            agent.filtered_until = until;
        }
        Some((name, resources))
    }

    fn accept(&mut self, accept: &call::Accept, now: u64) -> Vec<Event> {
        let until = now + refusal_ms(accept.filters.as_ref());
        let answered: Vec<Option<(String, Vec<Resource>)>> = accept
            .offer_ids
            .iter()
            .map(|id| self.answer(&id.value, until))
            .collect();
        let launches = accept.operations.iter().flat_map(|one| &one.launch);
        let infos: Vec<&TaskInfo> = launches.flat_map(|launch| &launch.task_infos).collect();
        for info in &infos {
            let id = info.task_id.value.clone();
            if !self.launched.insert(id.clone()) {
                self.violations.push(format!("{id} was launched twice"));
            }
        }
        // One offer that is not open makes the whole call invalid.
        let offers: Option<Vec<(String, Vec<Resource>)>> = answered.into_iter().collect();
        let Some(offers) = offers else {
            return infos
                .into_iter()
                .map(|info| self.dropped(info, Reason::InvalidOffers))
                .collect();
        };
        let Some((name, _)) = offers.first().cloned() else {
            return Vec::new();
        };
        if offers.iter().any(|(other, _)| *other != name) {
            self.violations
                .push("offers of several agents in one accept".to_owned());
        }
        let mut left = ResourceTotals::of(offers.iter().flat_map(|(_, resources)| resources));
        for info in infos {
            let executor = info
                .executor
                .iter()
                .flat_map(|executor| &executor.resources);
            let wanted = ResourceTotals::of(info.resources.iter().chain(executor));
            if !left.take(&wanted) {
                let id = &info.task_id.value;
                self.violations
                    .push(format!("{id} takes more than was offered: {wanted:?}"));
            }
            if let Some(agent) = self.agents.get_mut(&name) {
                let task = Task {
                    info: info.clone(),
                    state: TaskState::TaskStaging,
                    healthy: None,
                    news: VecDeque::new(),
                };
                agent.tasks.insert(info.task_id.value.clone(), task);
            }
        }
        if let Some(agent) = self.agents.get(&name)
            && let Some(what) = agent.overbooked()
        {
            self.violations
                .push(format!("{name} has more than it has: {what}"));
        }
        Vec::new()
    }

    /// The master's update about a task that was never launched.
    fn dropped(&self, info: &TaskInfo, reason: Reason) -> Event {
        update_event(TaskStatus {
            task_id: info.task_id.clone(),
            state: TaskState::TaskDropped.into(),
            agent_id: Some(info.agent_id.clone()),
            source: Some(Source::Master.into()),
            reason: Some(reason.into()),
            message: Some("Offers are not valid any more".to_owned()),
            ..TaskStatus::default()
        })
    }

    fn kill(&mut self, id: &str, agent: Option<&AgentId>) -> Vec<Event> {
        let found = self
            .agents
            .values()
            .find(|agent| agent.tasks.contains_key(id));
        match found {
            Some(agent) if agent.state == AgentState::Registered => {
                self.kills.push_back(id.to_owned());
                Vec::new()
            }
            // The agent cannot be told.
            Some(agent) if agent.state == AgentState::Unreachable => Vec::new(),
            _ => vec![self.reconciled(id, agent.map(|agent| agent.value.as_str()))],
        }
    }

    fn acknowledge(&mut self, id: &str, uuid: &[u8]) -> Vec<Event> {
        for agent in self.agents.values_mut() {
            let Some(task) = agent.tasks.get_mut(id) else {
                continue;
            };
            if task.news.front().is_some_and(|first| first.uuid() == uuid) {
                task.news.pop_front();
                let next = task.news.front().cloned().map(update_event);
                if task.news.is_empty() && !is_live(task.state) {
                    agent.tasks.remove(id);
                }
                return next.into_iter().collect();
            }
        }
        Vec::new()
    }

    fn reconcile(&self, reconcile: &call::Reconcile) -> Vec<Event> {
        if reconcile.tasks.is_empty() {
            let heard = self
                .agents
                .values()
                .filter(|agent| agent.state == AgentState::Registered);
            let tasks = heard.flat_map(|agent| agent.tasks.values());
            return tasks
                .filter(|task| is_live(task.state))
                .map(|task| self.reconciled(&task.info.task_id.value, None))
                .collect();
        }
        let named = reconcile.tasks.iter();
        named
            .map(|task| {
                let agent = task.agent_id.as_ref().map(|id| id.value.as_str());
                self.reconciled(&task.task_id.value, agent)
            })
            .collect()
    }

    /// The master's answer to a question about a task.
    fn reconciled(&self, id: &str, agent: Option<&str>) -> Event {
        let known = self
            .agents
            .iter()
            .find(|(_, agent)| agent.tasks.contains_key(id));
        let state = known
            .map(|(_, agent)| agent.state)
            .or_else(|| Some(self.agents.get(agent?)?.state));
        let task = known.and_then(|(_, agent)| agent.tasks.get(id));
        let (state, healthy) = match (state, task) {
            (Some(AgentState::Registered), Some(task)) => (task.state, task.healthy),
            (Some(AgentState::Registered), None) => (TaskState::TaskGone, None),
            (Some(AgentState::Unreachable), _) => (TaskState::TaskUnreachable, None),
            (Some(AgentState::Unknown) | None, _) => (TaskState::TaskUnknown, None),
        };
        let name = known.map(|(name, _)| name.as_str()).or(agent);
        update_event(TaskStatus {
            task_id: TaskId {
                value: id.to_owned(),
            },
            state: state.into(),
            healthy,
            agent_id: name.map(|name| AgentId {
                value: name.to_owned(),
            }),
            source: Some(Source::Master.into()),
            reason: Some(Reason::Reconciliation.into()),
            ..TaskStatus::default()
        })
    }
}

fn refusal_ms(filters: Option<&protocol::messages::Filters>) -> u64 {
    let seconds = filters.map_or(5.0, |filters| filters.refuse_seconds());
    (seconds * 1000.0) as u64
}

fn attribute((name, value): &(String, String)) -> Attribute {
    Attribute {
        name: name.clone(),
        r#type: value::Type::Text.into(),
        text: Some(value::Text {
            value: value.clone(),
        }),
        ..Attribute::default()
    }
}
