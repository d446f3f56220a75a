//! What is known of agents: what they have offered, and which of this scheduler's tasks they run.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    agent::{Agent, Bundle, Offer},
    amounts::{Amounts, Ports},
    state::Task,
};

/// The agents, by their ids.
#[derive(Debug, Default)]
pub(super) struct Agents(BTreeMap<Arc<str>, Agent>);

impl Agents {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Agent> {
        self.0.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Agent)> {
        self.0.iter()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Agent> {
        self.0.values()
    }

    /// Remembers what was offered and puts the offers of each agent together.
    pub(super) fn bundle(&mut self, offers: Vec<Offer>) -> BTreeMap<Arc<str>, Bundle> {
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
            let agent = self.0.entry(offer.agent).or_default();
            (agent.is_lost, agent.has_offered) = (false, true);
            agent.hostname = offer.hostname;
            agent.attributes = offer.attributes;
        }
        for (id, bundle) in &bundles {
            if let Some(agent) = self.0.get_mut(id) {
                agent.most = agent.most.most(bundle.free + agent.used);
                agent.most_ports = agent.most_ports.max(bundle.ports.count());
            }
        }
        bundles
    }

    /// The master has given up an agent. It stays known while it has tasks.
    pub(super) fn lost(&mut self, id: &str) {
        let Some(agent) = self.0.get_mut(id) else {
            return;
        };
        if agent.jobs.is_empty() {
            self.0.remove(id);
            return;
        }
        agent.is_lost = true;
    }

    /// A task uses these amounts of its agent, its executor included.
    pub(super) fn occupy(&mut self, task: &Task, amounts: Amounts) {
        let agent = self.0.entry(Arc::clone(&task.agent)).or_default();
        agent.hostname = Arc::clone(&task.hostname);
        agent.used += amounts;
        agent.most = agent.most.most(agent.used);
        *agent.jobs.entry(Arc::clone(&task.job)).or_default() += 1;
    }

    /// A task does not use its agent any more.
    pub(super) fn vacate(&mut self, task: &Task, amounts: Amounts) {
        let Some(agent) = self.0.get_mut(&task.agent) else {
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
            self.0.remove(&task.agent);
        }
    }
}
