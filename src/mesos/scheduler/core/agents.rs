//! What is known of agents: what they have offered, and what of ours runs there.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    amounts::{Amounts, Ports},
    core::Core,
    state::{Key, Task},
};

/// An offer, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// The master's name for it.
    pub id: String,
    /// Whose it is.
    pub agent: Arc<str>,
    /// The agent's host.
    pub hostname: Arc<str>,
    /// The values of its attributes.
    pub attributes: BTreeMap<String, Vec<String>>,
    /// What there is.
    pub amounts: Amounts,
    /// Numbers that are free.
    pub ports: Ports,
}

/// An agent that has offered something, or has tasks of ours.
#[derive(Debug, Default)]
pub(super) struct Agent {
    pub hostname: Arc<str>,
    /// As last offered; none before that.
    pub attributes: BTreeMap<String, Vec<String>>,
    /// The most that was ever to be had for us at a time: offered, and used by us already.
    pub most: Amounts,
    pub most_ports: usize,
    /// It has offered something since we began: what it has is known.
    pub has_offered: bool,
    /// The master has given it up; it is known for its tasks only.
    pub is_lost: bool,
    /// What tasks of ours use, with their executors.
    pub used: Amounts,
    /// How many there are, by job.
    pub jobs: BTreeMap<Key, usize>,
}

/// All that one agent offers in one go.
#[derive(Debug)]
pub(super) struct Bundle {
    pub offers: Vec<String>,
    pub hostname: Arc<str>,
    pub free: Amounts,
    pub ports: Ports,
    pub launches: Vec<u64>,
}

impl Agent {
    /// The values of an attribute; `host` is the host's name, as Aurora calls it.
    pub fn values<'a>(&'a self, attribute: &str) -> Vec<&'a str> {
        match self.attributes.get(attribute) {
            Some(values) => values.iter().map(String::as_str).collect(),
            None if attribute == "host" => vec![&*self.hostname],
            None => Vec::new(),
        }
    }
}

impl Core {
    /// Remembers what was offered and puts offers of one agent together.
    pub(super) fn bundled(&mut self, offers: Vec<Offer>) -> BTreeMap<Arc<str>, Bundle> {
        let mut bundles: BTreeMap<Arc<str>, Bundle> = BTreeMap::new();
        for offer in offers {
            let bundle = bundles
                .entry(Arc::clone(&offer.agent))
                .or_insert_with(|| Bundle {
                    offers: Vec::new(),
                    hostname: Arc::clone(&offer.hostname),
                    free: Amounts::default(),
                    ports: Ports::default(),
                    launches: Vec::new(),
                });
            bundle.offers.push(offer.id);
            bundle.free += offer.amounts;
            bundle.ports.append(offer.ports);
            let agent = self.agents.entry(offer.agent).or_default();
            (agent.is_lost, agent.has_offered) = (false, true);
            agent.hostname = offer.hostname;
            agent.attributes = offer.attributes;
        }
        for (id, bundle) in &bundles {
            if let Some(agent) = self.agents.get_mut(id) {
                agent.most = agent.most.most(bundle.free + agent.used);
                agent.most_ports = agent.most_ports.max(bundle.ports.count());
            }
        }
        bundles
    }

    /// An agent is gone: what it had says nothing any more.
    pub(super) fn agent_lost(&mut self, id: &str) {
        let Some(agent) = self.agents.get_mut(id) else {
            return;
        };
        if agent.jobs.is_empty() {
            self.agents.remove(id);
            return;
        }
        agent.is_lost = true;
    }

    /// A task uses its agent.
    pub(super) fn occupy(&mut self, serial: u64) {
        let Some(task) = self.state.tasks.get(&serial) else {
            return;
        };
        let amounts = self.amounts_of(task);
        let agent = self.agents.entry(Arc::clone(&task.agent)).or_default();
        agent.hostname = Arc::clone(&task.hostname);
        agent.used += amounts;
        agent.most = agent.most.most(agent.used);
        *agent.jobs.entry(Arc::clone(&task.job)).or_default() += 1;
    }

    /// A task does not use its agent any more.
    pub(super) fn vacate(&mut self, task: &Task, amounts: Amounts) {
        let Some(agent) = self.agents.get_mut(&task.agent) else {
            return;
        };
        agent.used = agent.used.less(amounts);
        if let Some(count) = agent.jobs.get_mut(&task.job) {
            *count -= 1;
            if *count == 0 {
                agent.jobs.remove(&task.job);
            }
        }
        if agent.is_lost && agent.jobs.is_empty() {
            self.agents.remove(&task.agent);
        }
    }

    /// What a task uses, with its executor.
    pub(super) fn amounts_of(&self, task: &Task) -> Amounts {
        let version = self.state.version_of(task);
        version.map_or_else(Amounts::default, |version| {
            version.amounts + self.settings.overhead
        })
    }
}
