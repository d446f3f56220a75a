//! Translates between the core's events and calls and Mesos' messages.
//!
//! An offer's resources are kept as they came (a part of them may be reserved for the framework's
//! role) until the offer is answered: a task's resources are cut out of exactly these.

use std::collections::{BTreeMap, HashMap};

use super::core::{
    self, Amounts, NAMES, Ports, SchedulerCore, Task, Version, task_id, thousandths,
};
use crate::{
    mesos::protocol::{
        self,
        messages::{
            AgentId, Attribute, CommandInfo, DiscoveryInfo, ExecutorId, ExecutorInfo, Filters,
            FrameworkId, FrameworkInfo, Label, Labels, Offer, OfferId, Port, Resource, TaskId,
            TaskInfo, TaskStatus, discovery_info, executor_info,
            framework_info::{Capability, capability},
            offer::{Operation, operation},
            scheduler::{Call, Event, call, event},
            value,
        },
    },
    task::Job,
};

/// How agents start executors.
#[derive(Clone, Debug, Default)]
pub struct ExecutorCommand {
    /// The command, for the shell.
    pub value: String,
    /// Files that the agent fetches into the sandbox before, and makes executable.
    pub uris: Vec<String>,
}

/// The framework, as the master sees it.
#[derive(Clone, Debug, Default)]
pub struct Framework {
    /// The framework id of an earlier subscription.
    pub id: Option<String>,
    /// A name for people.
    pub name: String,
    /// The user that runs executors; they change to a task's own user.
    pub user: String,
    /// The role whose resources are used.
    pub role: String,
    /// The principal that the framework authenticates as.
    pub principal: Option<String>,
    /// The scheduler's host, for people.
    pub hostname: String,
    /// How long tasks go on without the scheduler, in seconds.
    pub failover_timeout: f64,
}

impl Framework {
    /// The call that opens a stream.
    pub fn subscribe(&self) -> Call {
        let id = self.id.clone().map(|value| FrameworkId { value });
        let capabilities = [
            capability::Type::PartitionAware,
            capability::Type::MultiRole,
            // Agents with devices are not offered without it; the score of placing spares them.
            capability::Type::GpuResources,
        ];
        let info = FrameworkInfo {
            user: self.user.clone(),
            name: self.name.clone(),
            id: id.clone(),
            failover_timeout: Some(self.failover_timeout),
            checkpoint: Some(true),
            hostname: Some(self.hostname.clone()),
            principal: self.principal.clone(),
            roles: vec![self.role.clone()],
            capabilities: capabilities
                .into_iter()
                .map(|kind| Capability {
                    r#type: Some(kind.into()),
                })
                .collect(),
            ..FrameworkInfo::default()
        };
        Call {
            framework_id: id,
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                framework_info: info,
                suppressed_roles: Vec::new(),
            }),
            ..Call::default()
        }
    }
}

/// Keeps what is needed between an offer and its answer.
#[derive(Debug)]
pub struct Translator {
    executor: ExecutorCommand,
    framework: Option<String>,
    offers: HashMap<String, Vec<Resource>>,
}

/// What an event of the master means.
#[derive(Debug)]
pub enum Incoming {
    /// It is an event for the core.
    Event(core::Event),
    /// The subscription stands.
    Subscribed(core::Event),
    /// The master has given up the framework.
    Error(String),
    /// It is a sign of life, and no more.
    Nothing,
}

impl Translator {
    /// A translator without offers.
    pub fn new(executor: ExecutorCommand) -> Translator {
        Translator {
            executor,
            framework: None,
            offers: HashMap::new(),
        }
    }

    /// Translates an event.
    pub fn event(&mut self, event: Event) -> Incoming {
        match event.r#type() {
            event::Type::Subscribed => {
                let Some(subscribed) = event.subscribed else {
                    return Incoming::Nothing;
                };
                self.offers.clear();
                let id = subscribed.framework_id.value;
                self.framework = Some(id.clone());
                Incoming::Subscribed(core::Event::Subscribed(id))
            }
            event::Type::Offers => {
                let offers = event.offers.unwrap_or_default().offers.into_iter();
                let offers = offers.map(|offer| self.offer(offer)).collect();
                Incoming::Event(core::Event::Offers(offers))
            }
            event::Type::Rescind => match event.rescind {
                Some(rescind) => {
                    self.offers.remove(&rescind.offer_id.value);
                    Incoming::Event(core::Event::Rescinded(rescind.offer_id.value))
                }
                None => Incoming::Nothing,
            },
            event::Type::Update => match event.update {
                Some(update) => Incoming::Event(core::Event::Update(heard(update.status))),
                None => Incoming::Nothing,
            },
            event::Type::Failure => match event.failure {
                // With an executor id it is only that executor that has ended.
                Some(event::Failure {
                    agent_id: Some(id),
                    executor_id: None,
                    ..
                }) => Incoming::Event(core::Event::AgentLost(id.value)),
                _ => Incoming::Nothing,
            },
            event::Type::Error => Incoming::Error(
                event
                    .error
                    .map_or_else(|| "without a reason".to_owned(), |error| error.message),
            ),
            _ => Incoming::Nothing,
        }
    }

    fn offer(&mut self, offer: Offer) -> core::Offer {
        let mut resources: Vec<Resource> = offer.resources.into_iter().filter(is_plain).collect();
        // Resources that are reserved for the framework's role are used up first.
        resources.sort_by_key(|one| one.role.as_deref().is_none_or(|role| role == "*"));
        let mut amounts = Amounts::default();
        let mut ports = Ports::default();
        for resource in &resources {
            amounts += amount_of(resource);
            for range in ranges_of(resource) {
                ports.add(range.0, range.1);
            }
        }
        self.offers.insert(offer.id.value.clone(), resources);
        core::Offer {
            id: offer.id.value,
            agent: offer.agent_id.value.into(),
            hostname: offer.hostname.into(),
            attributes: attributes(&offer.attributes),
            amounts,
            ports,
        }
    }

    /// Translates a call; for a launch, `core` knows the task.
    pub fn call(&mut self, call: core::Call, core: &SchedulerCore) -> Call {
        let mut message = Call {
            framework_id: self.framework.clone().map(|value| FrameworkId { value }),
            ..Call::default()
        };
        let kind = match call {
            core::Call::Accept {
                offers,
                launches,
                refuse_ms,
            } => {
                let mut pieces: Vec<Resource> = offers
                    .iter()
                    .filter_map(|id| self.offers.remove(id))
                    .flatten()
                    .collect();
                let overhead = core.settings().overhead;
                let infos = launches.iter().filter_map(|serial| {
                    let task = core.state().tasks.get(serial)?;
                    let version = core.state().version_of(task)?;
                    Some(self.info(*serial, task, version, overhead, &mut pieces))
                });
                let launch = Operation {
                    r#type: Some(operation::Type::Launch.into()),
                    launch: Some(operation::Launch {
                        task_infos: infos.collect(),
                    }),
                };
                message.accept = Some(call::Accept {
                    offer_ids: offers.into_iter().map(|value| OfferId { value }).collect(),
                    operations: vec![launch],
                    filters: Some(filters(refuse_ms)),
                });
                call::Type::Accept
            }
            core::Call::Decline { offers, refuse_ms } => {
                for id in &offers {
                    self.offers.remove(id);
                }
                message.decline = Some(call::Decline {
                    offer_ids: offers.into_iter().map(|value| OfferId { value }).collect(),
                    filters: Some(filters(refuse_ms)),
                });
                call::Type::Decline
            }
            core::Call::Kill { task, agent } => {
                message.kill = Some(call::Kill {
                    task_id: TaskId { value: task },
                    agent_id: agent.map(|value| AgentId { value }),
                    kill_policy: None,
                });
                call::Type::Kill
            }
            core::Call::Acknowledge { task, agent, uuid } => {
                message.acknowledge = Some(call::Acknowledge {
                    agent_id: AgentId { value: agent },
                    task_id: TaskId { value: task },
                    uuid,
                });
                call::Type::Acknowledge
            }
            core::Call::Reconcile(tasks) => {
                let named = tasks
                    .into_iter()
                    .map(|(task, agent)| call::reconcile::Task {
                        task_id: TaskId { value: task },
                        agent_id: Some(AgentId { value: agent }),
                    });
                message.reconcile = Some(call::Reconcile {
                    tasks: named.collect(),
                });
                call::Type::Reconcile
            }
            core::Call::Suppress => call::Type::Suppress,
            core::Call::Revive => call::Type::Revive,
        };
        message.r#type = Some(kind.into());
        message
    }

    fn info(
        &self,
        serial: u64,
        task: &Task,
        version: &Version,
        overhead: Amounts,
        pieces: &mut [Resource],
    ) -> TaskInfo {
        let id = task_id(serial, task);
        let job = &version.config;
        let executor = ExecutorInfo {
            executor_id: ExecutorId { value: id.clone() },
            framework_id: self.framework.clone().map(|value| FrameworkId { value }),
            name: Some("dewar".to_owned()),
            r#type: Some(executor_info::Type::Custom.into()),
            command: Some(self.command()),
            resources: cut(pieces, overhead, &[]),
            ..ExecutorInfo::default()
        };
        TaskInfo {
            name: job.name.clone(),
            task_id: TaskId { value: id },
            agent_id: AgentId {
                value: task.agent.to_string(),
            },
            resources: cut(pieces, version.amounts, &task.ports),
            executor: Some(executor),
            data: Some(job.data(task.instance).into_bytes()),
            discovery: discovery(job, task),
            labels: Some(Labels {
                labels: vec![Label {
                    key: "job".to_owned(),
                    value: Some(task.job.to_string()),
                }],
            }),
            ..TaskInfo::default()
        }
    }

    fn command(&self) -> CommandInfo {
        let uris = self.executor.uris.iter();
        CommandInfo {
            value: Some(self.executor.value.clone()),
            uris: uris
                .map(|uri| protocol::messages::command_info::Uri {
                    value: uri.clone(),
                    executable: Some(true),
                    extract: Some(false),
                    ..Default::default()
                })
                .collect(),
            ..CommandInfo::default()
        }
    }
}

fn heard(status: TaskStatus) -> core::StatusUpdate {
    core::StatusUpdate {
        state: status.state(),
        reason: match status.reason {
            Some(_) => status.reason().as_str_name().to_owned(),
            None => String::new(),
        },
        task: status.task_id.value,
        agent: status.agent_id.map(|id| id.value),
        uuid: status.uuid.filter(|uuid| !uuid.is_empty()),
        healthy: status.healthy,
        message: status.message.unwrap_or_default(),
    }
}

fn filters(refuse_ms: u64) -> Filters {
    Filters {
        refuse_seconds: Some(refuse_ms as f64 / 1000.0),
    }
}

/// The names of the ports, for service discovery.
fn discovery(job: &Job, task: &Task) -> Option<DiscoveryInfo> {
    if task.ports.is_empty() {
        return None;
    }
    let named = job.ports.iter().zip(&task.ports);
    let ports = named.map(|(name, number)| Port {
        number: u32::from(*number),
        name: Some(name.clone()),
        protocol: Some("tcp".to_owned()),
    });
    Some(DiscoveryInfo {
        visibility: discovery_info::Visibility::Cluster.into(),
        name: Some(task.job.to_string()),
        ports: Some(protocol::messages::Ports {
            ports: ports.collect(),
        }),
    })
}

/// True of a resource that is no volume, cannot be revoked, and is not shared.
fn is_plain(resource: &Resource) -> bool {
    resource.disk.is_none()
        && resource.revocable.is_none()
        && resource.shared.is_none()
        && resource.provider_id.is_none()
        && resource.reservation.is_none()
        && resource.reservations.is_empty()
}

fn amount_of(resource: &Resource) -> Amounts {
    let mut each = [0; NAMES.len()];
    let index = NAMES.iter().position(|name| *name == resource.name);
    if let (Some(index), Some(scalar)) = (index, &resource.scalar) {
        each[index] = thousandths(scalar.value);
    }
    Amounts::of(each)
}

/// The ranges of a `ports` resource; none of any other resource.
fn ranges_of(resource: &Resource) -> impl Iterator<Item = (u16, u16)> {
    let ranges = resource
        .ranges
        .iter()
        .filter(|_| resource.name == "ports")
        .flat_map(|ranges| &ranges.range);
    ranges.filter_map(|range| {
        let first = u16::try_from(range.begin).ok()?;
        Some((first, u16::try_from(range.end).ok()?))
    })
}

/// An attribute that is given several times has all of its values.
fn attributes(all: &[Attribute]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in all {
        let values = found.entry(one.name.clone()).or_default();
        values.extend(values_of(one));
    }
    found
}

fn values_of(attribute: &Attribute) -> Vec<String> {
    match attribute.r#type() {
        value::Type::Text => attribute
            .text
            .iter()
            .map(|text| text.value.clone())
            .collect(),
        value::Type::Scalar => attribute
            .scalar
            .iter()
            .map(|scalar| scalar.value.to_string())
            .collect(),
        value::Type::Set => attribute
            .set
            .iter()
            .flat_map(|set| set.item.clone())
            .collect(),
        value::Type::Ranges => attribute
            .ranges
            .iter()
            .flat_map(|ranges| &ranges.range)
            .map(|range| format!("{}-{}", range.begin, range.end))
            .collect(),
    }
}

/// Cuts an amount out of the pieces: from as many of them as needed, each part with the role of its
/// piece.
fn cut(pieces: &mut [Resource], amounts: Amounts, ports: &[u16]) -> Vec<Resource> {
    let mut parts: Vec<Resource> = Vec::new();
    for (name, needed) in NAMES.into_iter().zip(amounts.each()) {
        let mut needed = needed;
        for piece in pieces.iter_mut().filter(|piece| piece.name == name) {
            let Some(scalar) = &mut piece.scalar else {
                continue;
            };
            let there = thousandths(scalar.value);
            let taken = there.min(needed);
            if taken == 0 {
                continue;
            }
            scalar.value = (there - taken) as f64 / 1000.0;
            needed -= taken;
            let mut part = piece.clone();
            part.scalar = Some(value::Scalar {
                value: taken as f64 / 1000.0,
            });
            parts.push(part);
        }
    }
    let mut by_piece: BTreeMap<usize, Vec<u16>> = BTreeMap::new();
    for port in ports {
        let holds = |piece: &Resource| {
            let mut ranges = ranges_of(piece);
            ranges.any(|(first, last)| (first..=last).contains(port))
        };
        if let Some(index) = pieces.iter().position(holds) {
            by_piece.entry(index).or_default().push(*port);
        }
    }
    for (index, ports) in by_piece {
        let mut part = pieces[index].clone();
        part.ranges = protocol::ports(ports).ranges;
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(name: &str, value: f64, role: &str) -> Resource {
        Resource {
            name: name.to_owned(),
            r#type: value::Type::Scalar.into(),
            scalar: Some(value::Scalar { value }),
            role: Some(role.to_owned()),
            ..Resource::default()
        }
    }

    #[test]
    fn what_is_cut_keeps_its_role_and_is_gone_from_the_piece() {
        let mut pieces = vec![scalar("cpus", 0.5, "www"), scalar("cpus", 4.0, "*")];
        let parts = cut(&mut pieces, Amounts::of([1200, 0, 0, 0]), &[]);
        assert_eq!(
            parts,
            [scalar("cpus", 0.5, "www"), scalar("cpus", 0.7, "*")]
        );
        assert_eq!(
            pieces,
            [scalar("cpus", 0.0, "www"), scalar("cpus", 3.3, "*")]
        );
    }
}
