//! From offers to launches: the best agent for every waiting instance, one after the other.
//!
//! Instances wait by priority, then by job and number. For each, the agents that it may use and
//! that have enough are ordered by a score, lowest first:
//!
//! 1. devices that the job does not want stay free for jobs that do;
//! 2. fewest instances of the same job, so that the loss of an agent costs little;
//! 3. fullest, so that large pieces stay whole: the shares of cores, memory and disk space that
//!    would be left, added up, in thousandths of the most that the agent ever had for this
//!    scheduler;
//! 4. the agent's id, so that the same history gives the same choice.
//!
//! Agents on which the instance failed lately come last: for a while it waits for another one.
//! Offers are never kept: what is not used is declined at once.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

use super::{
    agent::{Agent, Bundle, Offer},
    amounts::Amounts,
    core::SchedulerCore,
    decision::{Call, Measure},
    matching::veto,
    state::{JobState, Kind, Task, Version, limits},
    timers::Timer,
    waiting::Group,
};
use crate::protocols::dewar::scheduler::Launched;

/// Whether devices are wasted, instances of the job, shares left, the agent's id: the lowest is
/// taken.
type Score = (bool, usize, u64, Arc<str>);

/// What one instance takes from an agent.
struct Need {
    version: Arc<Version>,
    /// The instance's resources, its executor included.
    amounts: Amounts,
    ports: usize,
}

/// How many instances of a job run where a limited attribute (by its index) has this value.
pub(super) type Counts = BTreeMap<(usize, String), u32>;

impl SchedulerCore {
    /// Answers every offer.
    pub(super) fn place(&mut self, offers: Vec<Offer>) {
        self.demand.offered();
        let mut bundles = self.agents.bundle(offers);
        for group in self.waiting.groups() {
            self.place_group(&group, &mut bundles);
        }
        let is_idle = self.waiting.is_empty() || self.connected.is_none();
        let refuse_ms = match is_idle {
            true => self.settings.idle_refuse_ms,
            false => self.settings.refuse_ms,
        };
        let mut declined = Vec::new();
        for bundle in bundles.into_values() {
            match bundle.launches.is_empty() {
                true => declined.extend(bundle.offers),
                false => self.out.calls.push(Call::Accept {
                    offers: bundle.offers,
                    launches: bundle.launches,
                    refuse_ms,
                }),
            }
        }
        if !declined.is_empty() {
            self.out.calls.push(Call::Decline {
                offers: declined,
                refuse_ms,
            });
        }
    }

    fn place_group(&mut self, group: &Group, bundles: &mut BTreeMap<Arc<str>, Bundle>) {
        let (_, key, number) = group;
        let Some(job) = self.state.jobs.get(key) else {
            return;
        };
        let Some(version) = job.versions.get(number).cloned() else {
            return;
        };
        let need = Need {
            amounts: version.amounts + self.settings.overhead,
            ports: version.config.ports.len(),
            version,
        };
        let mut counts = self.counts(key, job, &need.version);
        let mut heap: BinaryHeap<Reverse<Score>> = bundles
            .iter()
            .filter_map(|(id, bundle)| {
                let agent = self.agents.get(id)?;
                let is_drained = self.state.drained.contains(&*bundle.hostname);
                let is_good = veto(agent, &need.version.config, is_drained).is_none();
                is_good.then(|| self.score(key, id, agent, bundle, &need))?
            })
            .map(Reverse)
            .collect();
        for instance in self.waiting.numbers(group) {
            if heap.is_empty() {
                return;
            }
            let chosen = self.choose(key, instance, &need, &mut heap, bundles, &counts);
            let Some(id) = chosen else { continue };
            let Some(bundle) = bundles.get_mut(&id) else {
                continue;
            };
            self.launch(key, instance, group.2, &need, &id, bundle, &mut counts);
            let again = self
                .agents
                .get(&id)
                .and_then(|agent| self.score(key, &id, agent, bundle, &need));
            heap.extend(again.map(Reverse));
        }
    }

    /// The score of an agent; `None` when it does not have enough.
    fn score(
        &self,
        key: &Arc<str>,
        id: &Arc<str>,
        agent: &Agent,
        bundle: &Bundle,
        need: &Need,
    ) -> Option<Score> {
        if !bundle.free.fits(&need.amounts) || bundle.ports.count() < need.ports {
            return None;
        }
        let left = bundle.free.less(need.amounts).each();
        let most = agent.most.each();
        let shares = left
            .iter()
            .zip(most)
            .take(3)
            .map(|(left, most)| left.saturating_mul(1000) / most.max(1));
        let wastes_devices = bundle.free.gpus > 0 && need.amounts.gpus == 0;
        let here = agent.jobs.get(key).copied().unwrap_or(0);
        Some((wastes_devices, here, shares.sum(), Arc::clone(id)))
    }

    /// The best agent for this instance. Agents that no instance of the group can use any more are
    /// dropped.
    fn choose(
        &mut self,
        key: &Arc<str>,
        number: u32,
        need: &Need,
        heap: &mut BinaryHeap<Reverse<Score>>,
        bundles: &BTreeMap<Arc<str>, Bundle>,
        counts: &Counts,
    ) -> Option<Arc<str>> {
        let mut avoided = Vec::new();
        let mut chosen = None;
        while let Some(Reverse(score)) = heap.pop() {
            let id = Arc::clone(&score.3);
            let (Some(agent), true) = (self.agents.get(&id), bundles.contains_key(&id)) else {
                continue;
            };
            let mut limited = limits(&need.version.config).enumerate();
            let is_full = limited.any(|(index, (attribute, most))| {
                let value = value_of(agent, attribute);
                counts.get(&(index, value)).copied().unwrap_or(0) >= most
            });
            if is_full {
                continue;
            }
            if self.avoids(key, number, &id) {
                avoided.push(score);
                continue;
            }
            chosen = Some(id);
            break;
        }
        if chosen.is_none() && !avoided.is_empty() {
            let until = self.avoids_until(key, number);
            let waits = until > self.now && self.has_another(key, number, need);
            match waits {
                true => {
                    let at = Timer::Instance(Arc::clone(key), number);
                    self.timers.set(until, at);
                }
                false => chosen = avoided.first().map(|score| Arc::clone(&score.3)),
            }
        }
        let rest = avoided.into_iter();
        heap.extend(
            rest.filter(|score| Some(&score.3) != chosen.as_ref())
                .map(Reverse),
        );
        chosen
    }

    fn avoids(&self, key: &str, number: u32, agent: &str) -> bool {
        let instance = self.state.instance(key, number);
        instance.is_some_and(|instance| instance.avoid.iter().any(|one| one == agent))
    }

    fn avoids_until(&self, key: &str, number: u32) -> u64 {
        let instance = self.state.instance(key, number);
        let since = instance.map_or(0, |instance| instance.since.max(instance.not_before));
        since + self.settings.other_agents_ms
    }

    /// True when an agent that the instance does not avoid would be large enough, were it free.
    fn has_another(&self, key: &str, number: u32, need: &Need) -> bool {
        self.agents.iter().any(|(id, agent)| {
            let is_drained = self.state.drained.contains(&*agent.hostname);
            !self.avoids(key, number, id)
                && agent.most.fits(&need.amounts)
                && veto(agent, &need.version.config, is_drained).is_none()
        })
    }

    pub(super) fn counts(&self, key: &str, job: &JobState, version: &Version) -> Counts {
        let mut counts = Counts::new();
        if limits(&version.config).next().is_none() {
            return counts;
        }
        let known = |serial| self.state.tasks.get(&serial);
        let own = job.instances.values().filter_map(|one| one.task);
        // A replaced task that came back runs until it is killed.
        let superseded = self.superseded.iter().copied().filter_map(known);
        let back = superseded.filter(|task| *task.job == *key && task.is_reachable());
        for task in own.filter_map(known).chain(back) {
            let values = self.limited_values(task, version);
            for (index, value) in values.into_iter().enumerate() {
                *counts.entry((index, value)).or_default() += 1;
            }
        }
        counts
    }

    /// The values of the attributes that this version limits, as the task's agent had them when the
    /// task was launched; for an attribute that the task's own version did not limit, as the agent
    /// has it today.
    fn limited_values(&self, task: &Task, version: &Version) -> Vec<String> {
        let own = self.state.version_of(task);
        let recorded: BTreeMap<&str, &String> = own
            .into_iter()
            .flat_map(|own| limits(&own.config))
            .map(|(attribute, _)| attribute)
            .zip(&task.limited)
            .collect();
        let agent = self.agents.get(&task.agent);
        limits(&version.config)
            .map(|(attribute, _)| match recorded.get(attribute) {
                Some(value) => (*value).clone(),
                None => agent.map_or_else(String::new, |agent| value_of(agent, attribute)),
            })
            .collect()
    }

    #[expect(clippy::too_many_arguments, reason = "a launch has as many sides")]
    fn launch(
        &mut self,
        key: &Arc<str>,
        number: u32,
        version: u32,
        need: &Need,
        id: &Arc<str>,
        bundle: &mut Bundle,
        counts: &mut Counts,
    ) {
        let Some(ports) = bundle.ports.take(need.ports) else {
            return;
        };
        let Some(agent) = self.agents.get(id) else {
            return;
        };
        let limited: Vec<String> = limits(&need.version.config)
            .map(|(attribute, _)| value_of(agent, attribute))
            .collect();
        for (index, value) in limited.iter().enumerate() {
            *counts.entry((index, value.clone())).or_default() += 1;
        }
        bundle.free = bundle.free.less(need.amounts);
        let serial = self.state.serial + 1;
        bundle.launches.push(serial);
        let instance = self.state.instance(key, number);
        let since = instance.map_or(self.now, |instance| instance.since);
        self.measure(Measure::Assigned(self.now.saturating_sub(since)));
        self.fact(Kind::Launched(Launched {
            serial,
            job: key.to_string(),
            instance: number,
            version,
            agent_id: id.to_string(),
            hostname: bundle.hostname.to_string(),
            ports: ports.into_iter().map(u32::from).collect(),
            limited,
        }));
        self.index_instance(key, number);
        self.advance_task(serial);
    }
}

/// The value that a limit counts by; several values count as one, joined by commas.
pub(super) fn value_of(agent: &Agent, attribute: &str) -> String {
    agent.values(attribute).join(",")
}
