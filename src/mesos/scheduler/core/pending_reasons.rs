//! Why an instance waits for a place, as a text for people.

use std::collections::BTreeMap;

use super::{
    agent::Agent,
    amounts::{Amounts, NAMES, shown},
    core::SchedulerCore,
    matching::{Veto, veto},
    placing::value_of,
    state::{Version, limits},
};

impl SchedulerCore {
    /// Why an instance of this version waits, as far as the agents are known.
    pub(super) fn pending_reason(&self, version: &Version) -> String {
        self.obstacle(version)
            .unwrap_or_else(|| self.no_room(version))
    }

    /// Names the agent with the most room, as far as this scheduler's own tasks tell.
    fn no_room(&self, version: &Version) -> String {
        let needed = version.amounts + self.settings.overhead;
        let allowed = self.agents.values().filter(|agent| {
            let is_drained = self.state.drained.contains(&*agent.hostname);
            agent.has_offered && veto(agent, &version.config, is_drained).is_none()
        });
        let roomiest = allowed.max_by_key(|agent| agent.most.less(agent.used).cpus);
        let Some(agent) = roomiest else {
            return "waits for an offer".to_owned();
        };
        let free = agent.most.less(agent.used);
        let short = needed.each().into_iter().zip(free.each());
        let lacks: Vec<String> = short
            .enumerate()
            .filter(|(_, (wants, has))| has < wants)
            .map(|(index, (wants, has))| {
                let (wants, has) = (shown(index, wants), shown(index, has));
                format!("{} {has} of {wants}", NAMES[index])
            })
            .collect();
        match lacks.is_empty() {
            true => format!("waits for an offer ({} has room)", agent.hostname),
            false => format!(
                "waits for room: {} has most left, {}",
                agent.hostname,
                lacks.join(", ")
            ),
        }
    }

    /// An obstacle that does not go away by waiting alone; `None` when waiting may help.
    pub(super) fn obstacle(&self, version: &Version) -> Option<String> {
        if self.connected.is_none() {
            return Some("there is no master to ask".to_owned());
        }
        if self.agents.is_empty() {
            return Some("no agent has offered anything yet".to_owned());
        }
        if self.agents.values().any(|agent| !agent.has_offered) {
            // The resources of an agent that has offered nothing yet are not known.
            return None;
        }
        let mut vetoes: BTreeMap<Veto, usize> = BTreeMap::new();
        let mut allowed: Vec<&Agent> = Vec::new();
        for agent in self.agents.values() {
            let is_drained = self.state.drained.contains(&*agent.hostname);
            match veto(agent, &version.config, is_drained) {
                Some(veto) => *vetoes.entry(veto).or_default() += 1,
                None => allowed.push(agent),
            }
        }
        if allowed.is_empty() {
            let all = vetoes.into_iter().map(|(veto, count)| worded(&veto, count));
            let all = all.collect::<Vec<_>>().join("; ");
            return Some(format!("no agent may have it: {all}"));
        }
        never(&allowed, version, self.settings.overhead).or_else(|| self.full(&allowed, version))
    }

    /// As [`obstacle`](Self::obstacle), but only obstacles that also stay when other instances end.
    pub(super) fn never_fits(&self, version: &Version) -> Option<String> {
        // A lost agent may come back, and a drained one may be used again.
        let allowed: Vec<&Agent> = self
            .agents
            .values()
            .filter(|agent| {
                let veto = veto(agent, &version.config, false);
                veto.is_none() || veto == Some(Veto::Lost)
            })
            .collect();
        let is_known = !self.agents.is_empty() && self.agents.values().all(|one| one.has_offered);
        match (is_known, allowed.is_empty()) {
            (false, _) => None,
            (true, true) => self.obstacle(version),
            (true, false) => never(&allowed, version, self.settings.overhead),
        }
    }

    /// A limit that is reached on every agent that the job may use.
    fn full(&self, allowed: &[&Agent], version: &Version) -> Option<String> {
        let key = version.config.key();
        let job = self.state.jobs.get(key.as_str())?;
        let counts = self.counts(&key, job, version);
        let (_, (attribute, most)) = limits(&version.config).enumerate().find(|(index, one)| {
            allowed.iter().all(|agent| {
                let value = value_of(agent, one.0);
                counts.get(&(*index, value)).copied().unwrap_or(0) >= one.1
            })
        })?;
        Some(format!(
            "its limit of {most} by `{attribute}` is reached on every agent that it may have ({})",
            allowed.len()
        ))
    }
}

/// What the version needs and no agent of these ever had.
fn never(allowed: &[&Agent], version: &Version, overhead: Amounts) -> Option<String> {
    let needed = version.amounts + overhead;
    let ports = version.config.ports.len();
    let fits = |agent: &&&Agent| agent.most.fits(&needed) && agent.most_ports >= ports;
    if allowed.iter().find(fits).is_some() {
        return None;
    }
    let mut lines = Vec::new();
    for (index, name) in NAMES.into_iter().enumerate() {
        // Of several agents with the same amount the first is named.
        let agents = allowed.iter().rev();
        let best = agents.max_by_key(|agent| agent.most.each()[index]);
        let Some(best) = best else { continue };
        let (has, wants) = (best.most.each()[index], needed.each()[index]);
        if has < wants {
            let of_executor = match overhead.each()[index] {
                0 => String::new(),
                part => format!(" ({} of it for its executor)", shown(index, part)),
            };
            lines.push(format!(
                "{name}: it needs {}{of_executor}, the most that any agent has offered is {} ({})",
                shown(index, wants),
                shown(index, has),
                best.hostname
            ));
        }
    }
    let most_ports = allowed.iter().map(|agent| agent.most_ports).max();
    if most_ports.unwrap_or(0) < ports {
        let most = most_ports.unwrap_or(0);
        lines.push(format!(
            "ports: it needs {ports}, the most that any agent has offered is {most}"
        ));
    }
    if lines.is_empty() {
        let text = "every resource is there, but no agent has enough of all of them at once";
        return Some(format!("it can never fit: {text} ({needed})"));
    }
    Some(format!("it can never fit: {}", lines.join("; ")))
}

fn worded(veto: &Veto, count: usize) -> String {
    let agents = if count == 1 { "agent" } else { "agents" };
    match veto {
        Veto::Lost => format!("{count} {agents} lost"),
        Veto::Without(attribute) => {
            format!(
                "{count} {agents} without the attribute `{attribute}` that its constraint asks for"
            )
        }
        Veto::Drained => format!("{count} {agents} drained"),
        Veto::Dedicated => format!("{count} {agents} dedicated to other jobs"),
        Veto::Value(attribute) => {
            format!("{count} {agents} with another `{attribute}` than its constraint wants")
        }
    }
}
