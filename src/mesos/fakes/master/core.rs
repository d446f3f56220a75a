//! What a master knows and answers: a function from calls and news to refusals and events.
//!
//! Its agents are part of it, their tasks are names: what becomes of them is told from outside. It keeps
//! count of what no scheduler may do (see [`Master::violations`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::resource_totals::{Bag, milli};
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

/// An agent to be.
#[derive(Clone, Debug, Default)]
pub struct AgentSpec {
    /// Its id, and its host's name.
    pub name: String,
    /// Attributes, all of them texts.
    pub attributes: Vec<(String, String)>,
    /// Cores.
    pub cpus: f64,
    /// MiB.
    pub mem: f64,
    /// MiB.
    pub disk: f64,
    /// From the first to the last; none when the last is below the first.
    pub ports: (u16, u16),
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of HTTP.
    pub status: u16,
    /// In words.
    pub why: String,
}

/// How an agent stands with the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Registered,
    /// Its tasks go on, and nobody hears of them.
    Unreachable,
    /// A master that has just started does not know it yet.
    Unknown,
}

#[derive(Debug)]
struct Agent {
    spec: AgentSpec,
    standing: Standing,
    /// Tasks that are there, and what is still to be acknowledged of them.
    tasks: BTreeMap<String, Task>,
    /// It is not offered before then.
    filtered_until: u64,
}

#[derive(Debug)]
struct Task {
    info: TaskInfo,
    state: TaskState,
    healthy: Option<bool>,
    /// News that were not acknowledged, oldest first: only the first one was sent.
    news: VecDeque<TaskStatus>,
}

/// A master and its agents, without sockets.
#[derive(Debug, Default)]
pub struct Master {
    framework: Option<String>,
    agents: BTreeMap<String, Agent>,
    /// Which agent, and how much.
    offers: BTreeMap<String, (String, Vec<Resource>)>,
    counter: u64,
    is_suppressed: bool,
    /// What no scheduler may do, in words.
    violations: Vec<String>,
    /// Offers that were answered, how often.
    answered: BTreeMap<String, u32>,
    /// Tasks that were launched, ever.
    launched: BTreeSet<String>,
    /// Tasks that the scheduler wants ended.
    kills: VecDeque<String>,
}

/// True while a task takes what it was given.
fn is_live(state: TaskState) -> bool {
    !protocol::is_terminal(state)
}

impl Master {
    /// A master with these agents.
    pub fn new(agents: &[AgentSpec]) -> Master {
        let mut master = Master::default();
        for spec in agents {
            master.add_agent(spec.clone());
        }
        master
    }

    /// One agent more.
    pub fn add_agent(&mut self, spec: AgentSpec) {
        let agent = Agent {
            standing: Standing::Registered,
            tasks: BTreeMap::new(),
            filtered_until: 0,
            spec,
        };
        self.agents.insert(agent.spec.name.clone(), agent);
    }

    /// What a scheduler did that none may do.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Offers that are not answered yet.
    pub fn outstanding(&self) -> usize {
        self.offers.len()
    }

    /// Ids of the agents.
    pub fn agents(&self) -> Vec<String> {
        self.agents.keys().cloned().collect()
    }

    /// Live tasks: id, agent, state; those on agents that nobody hears of too.
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

    /// What a task was launched with.
    pub fn info(&self, id: &str) -> Option<&TaskInfo> {
        let mut tasks = self.agents.values().flat_map(|agent| &agent.tasks);
        tasks
            .find(|(known, _)| *known == id)
            .map(|(_, task)| &task.info)
    }

    /// The next task that the scheduler wants ended, if its agent can be reached.
    pub fn next_kill(&mut self) -> Option<String> {
        self.kills.pop_front()
    }

    /// Answers a call with events for the stream.
    ///
    /// # Errors
    /// As a master refuses.
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
                let refuse = refused(decline.filters.as_ref());
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
            // Without an id it is another framework; whoever has tasks must not forget its own.
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

    /// Offers everything that may be offered.
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
            let is_free = agent.standing == Standing::Registered
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
                attributes: agent.spec.attributes.iter().map(text).collect(),
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

    /// Takes back offers of an agent, or of all.
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

    /// An offer is answered; `None` when it is not there (any more).
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
        let until = now + refused(accept.filters.as_ref());
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
        // One offer that is gone spoils all.
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
        let mut left = Bag::of(offers.iter().flat_map(|(_, resources)| resources));
        for info in infos {
            let executor = info
                .executor
                .iter()
                .flat_map(|executor| &executor.resources);
            let wanted = Bag::of(info.resources.iter().chain(executor));
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

    /// The master's own word about a task that never began.
    fn dropped(&self, info: &TaskInfo, reason: Reason) -> Event {
        update(TaskStatus {
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
            Some(agent) if agent.standing == Standing::Registered => {
                self.kills.push_back(id.to_owned());
                Vec::new()
            }
            // Nobody can tell it.
            Some(agent) if agent.standing == Standing::Unreachable => Vec::new(),
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
                let next = task.news.front().cloned().map(update);
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
                .filter(|agent| agent.standing == Standing::Registered);
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

    /// What a master says of a task that it is asked for.
    fn reconciled(&self, id: &str, agent: Option<&str>) -> Event {
        let known = self
            .agents
            .iter()
            .find(|(_, agent)| agent.tasks.contains_key(id));
        let standing = known
            .map(|(_, agent)| agent.standing)
            .or_else(|| Some(self.agents.get(agent?)?.standing));
        let task = known.and_then(|(_, agent)| agent.tasks.get(id));
        let (state, healthy) = match (standing, task) {
            (Some(Standing::Registered), Some(task)) => (task.state, task.healthy),
            (Some(Standing::Registered), None) => (TaskState::TaskGone, None),
            (Some(Standing::Unreachable), _) => (TaskState::TaskUnreachable, None),
            (Some(Standing::Unknown) | None, _) => (TaskState::TaskUnknown, None),
        };
        let name = known.map(|(name, _)| name.as_str()).or(agent);
        update(TaskStatus {
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

    /// A task's executor says how it is; what the scheduler hears of it now.
    pub fn news(
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
            let is_heard = agent.standing == Standing::Registered && task.news.len() == 1;
            return match is_heard {
                true => vec![update(status)],
                false => Vec::new(),
            };
        }
        Vec::new()
    }

    /// What was not acknowledged, once more.
    pub fn resend(&self) -> Vec<Event> {
        let heard = self
            .agents
            .values()
            .filter(|agent| agent.standing == Standing::Registered);
        let tasks = heard.flat_map(|agent| agent.tasks.values());
        tasks
            .filter_map(|task| task.news.front().cloned().map(update))
            .collect()
    }

    /// Nobody hears of an agent any more; its tasks go on.
    pub fn lose(&mut self, name: &str) -> Vec<Event> {
        let mut events = self.rescind(Some(name));
        if let Some(agent) = self.agents.get_mut(name)
            && agent.standing == Standing::Registered
        {
            agent.standing = Standing::Unreachable;
            let live = agent.tasks.iter().filter(|(_, task)| is_live(task.state));
            let said =
                |id: &String| word(id, name, TaskState::TaskUnreachable, Reason::AgentRemoved);
            events.extend(live.map(|(id, _)| update(said(id))));
        }
        events
    }

    /// The agent is back, and its tasks with it.
    pub fn find(&mut self, name: &str) -> Vec<Event> {
        let Some(agent) = self.agents.get_mut(name) else {
            return Vec::new();
        };
        let was_lost = std::mem::replace(&mut agent.standing, Standing::Registered);
        if was_lost == Standing::Registered {
            return Vec::new();
        }
        let live = agent.tasks.iter().filter(|(_, task)| is_live(task.state));
        let mut events: Vec<Event> = live
            .map(|(id, task)| {
                update(TaskStatus {
                    healthy: task.healthy,
                    ..word(id, name, task.state, Reason::AgentReregistered)
                })
            })
            .collect();
        events.extend(
            agent
                .tasks
                .values()
                .filter_map(|task| task.news.front().cloned().map(update)),
        );
        events
    }

    /// The agent is destroyed with everything on it; an empty one of the same name takes its place.
    pub fn destroy(&mut self, name: &str) -> Vec<Event> {
        let mut events = self.rescind(Some(name));
        let Some(agent) = self.agents.get_mut(name) else {
            return events;
        };
        agent.standing = Standing::Registered;
        for (id, task) in std::mem::take(&mut agent.tasks) {
            if is_live(task.state) {
                let gone = word(&id, name, TaskState::TaskGone, Reason::AgentRemoved);
                events.push(update(gone));
            }
        }
        events
    }

    /// Another master takes over, which knows no agent yet, and no framework.
    pub fn fail_over(&mut self) {
        self.offers.clear();
        self.kills.clear();
        for agent in self.agents.values_mut() {
            agent.standing = Standing::Unknown;
        }
    }
}

impl Agent {
    fn used(&self) -> Bag {
        let live = self.tasks.values().filter(|task| is_live(task.state));
        let mut used = Bag::default();
        for task in live {
            let executor = task.info.executor.iter();
            let resources = executor.flat_map(|executor| &executor.resources);
            used.add(&Bag::of(task.info.resources.iter().chain(resources)));
        }
        used
    }

    fn whole(&self) -> Bag {
        let (first, last) = self.spec.ports;
        Bag {
            scalars: [
                ("cpus".to_owned(), milli(self.spec.cpus)),
                ("mem".to_owned(), milli(self.spec.mem)),
                ("disk".to_owned(), milli(self.spec.disk)),
            ]
            .into(),
            ports: (first..=last).collect(),
        }
    }

    fn free(&self) -> Vec<Resource> {
        let mut left = self.whole();
        left.take(&self.used());
        let scalars = left.scalars.into_iter().filter(|(_, amount)| *amount > 0);
        let mut resources: Vec<Resource> = scalars
            .map(|(name, amount)| Resource {
                name,
                r#type: value::Type::Scalar.into(),
                scalar: Some(value::Scalar {
                    value: amount as f64 / 1000.0,
                }),
                role: Some("*".to_owned()),
                ..Resource::default()
            })
            .collect();
        if !left.ports.is_empty() {
            resources.push(protocol::ports(left.ports));
        }
        resources
    }

    fn overbooked(&self) -> Option<String> {
        let mut left = self.whole();
        let used = self.used();
        (!left.take(&used)).then(|| format!("{used:?}"))
    }
}

fn refused(filters: Option<&protocol::messages::Filters>) -> u64 {
    let seconds = filters.map_or(5.0, |filters| filters.refuse_seconds());
    (seconds * 1000.0) as u64
}

fn text((name, value): &(String, String)) -> Attribute {
    Attribute {
        name: name.clone(),
        r#type: value::Type::Text.into(),
        text: Some(value::Text {
            value: value.clone(),
        }),
        ..Attribute::default()
    }
}

/// What the master itself says of a task.
fn word(id: &str, agent: &str, state: TaskState, reason: Reason) -> TaskStatus {
    TaskStatus {
        task_id: TaskId {
            value: id.to_owned(),
        },
        state: state.into(),
        agent_id: Some(AgentId {
            value: agent.to_owned(),
        }),
        source: Some(Source::Master.into()),
        reason: Some(reason.into()),
        ..TaskStatus::default()
    }
}

fn update(status: TaskStatus) -> Event {
    Event {
        r#type: Some(event::Type::Update.into()),
        update: Some(event::Update { status }),
        ..Event::default()
    }
}
