//! An agent of the fake master: its resources, and the tasks on it. Tasks are only names; no
//! process runs.

use std::collections::{BTreeMap, VecDeque};

use super::resource_totals::{ResourceTotals, milli};
use crate::mesos::protocol::{
    self,
    messages::{Resource, TaskInfo, TaskState, TaskStatus, value},
};

/// The description of an agent.
#[derive(Clone, Debug, Default)]
pub struct AgentSpec {
    /// The agent's id, which is also its host's name.
    pub name: String,
    /// The agent's attributes, all of them texts.
    pub attributes: Vec<(String, String)>,
    /// Cores, fractions included.
    pub cpus: f64,
    /// Memory in MiB.
    pub mem: f64,
    /// Disk space in MiB.
    pub disk: f64,
    /// The first and the last port; there are none when the last is below the first.
    pub ports: (u16, u16),
}

/// What the master knows of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AgentState {
    Registered,
    /// The agent does not answer; its tasks go on.
    Unreachable,
    /// A master that has just started does not know the agent yet.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Agent {
    pub(super) spec: AgentSpec,
    pub(super) state: AgentState,
    /// Tasks that run, or whose updates are still to be acknowledged.
    pub(super) tasks: BTreeMap<String, Task>,
    /// When the agent's resources may be offered again, in milliseconds.
    pub(super) filtered_until: u64,
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) info: TaskInfo,
    pub(super) state: TaskState,
    pub(super) healthy: Option<bool>,
    /// Updates that are not acknowledged, oldest first: only the first one was sent.
    pub(super) news: VecDeque<TaskStatus>,
}

impl Agent {
    pub(super) fn used(&self) -> ResourceTotals {
        let live = self.tasks.values().filter(|task| is_live(task.state));
        let mut used = ResourceTotals::default();
        for task in live {
            let executor = task.info.executor.iter();
            let resources = executor.flat_map(|executor| &executor.resources);
            used.add(&ResourceTotals::of(
                task.info.resources.iter().chain(resources),
            ));
        }
        used
    }

    fn whole(&self) -> ResourceTotals {
        let (first, last) = self.spec.ports;
        ResourceTotals {
            scalars: [
                ("cpus".to_owned(), milli(self.spec.cpus)),
                ("mem".to_owned(), milli(self.spec.mem)),
                ("disk".to_owned(), milli(self.spec.disk)),
            ]
            .into(),
            ports: (first..=last).collect(),
        }
    }

    pub(super) fn free(&self) -> Vec<Resource> {
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

    pub(super) fn overbooked(&self) -> Option<String> {
        let mut left = self.whole();
        let used = self.used();
        (!left.take(&used)).then(|| format!("{used:?}"))
    }
}

/// True while a task uses its resources.
pub(super) fn is_live(state: TaskState) -> bool {
    !protocol::is_terminal(state)
}
