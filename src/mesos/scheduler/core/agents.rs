//! What is known of agents: what they have offered, and what of ours runs there.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    agent::{Bundle, Offer},
    amounts::{Amounts, Ports},
    core::Core,
    state::Task,
};

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
