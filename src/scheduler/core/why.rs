//! Why an instance waits, in words for people.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    agents::Agent,
    amounts::{Amounts, NAMES, shown},
    decide::Core,
    matching::{Veto, veto},
    state::Version,
};

impl Core {
    /// What stands in the way of placing an instance of this version, as far as the agents are known.
    pub(super) fn why_waiting(&self, version: &Version) -> String {
        self.obstacle(version).unwrap_or_else(|| {
            "waits for an agent with enough free, and within its limits".to_owned()
        })
    }

    /// What waiting alone will not mend.
    pub(super) fn obstacle(&self, version: &Version) -> Option<String> {
        if self.connected.is_none() {
            return Some("there is no master to ask".to_owned());
        }
        if self.agents.is_empty() {
            return Some("no agent has offered anything yet".to_owned());
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
        never(&allowed, version, self.settings.overhead)
    }
}

/// What it needs that no agent of these ever had.
fn never(allowed: &[&Agent], version: &Version, overhead: Amounts) -> Option<String> {
    let needed = version.amounts + overhead;
    let ports = version.config.ports.len();
    let fits = |agent: &&&Agent| agent.most.fits(&needed) && agent.most_ports >= ports;
    if allowed.iter().find(fits).is_some() {
        return None;
    }
    let mut lines = Vec::new();
    for (index, name) in NAMES.into_iter().enumerate() {
        // Of several the first.
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
        Veto::Drained => format!("{count} {agents} drained"),
        Veto::Dedicated => format!("{count} {agents} dedicated to other jobs"),
        Veto::Value(attribute) => {
            format!("{count} {agents} with another `{attribute}` than its constraint wants")
        }
    }
}

/// The name among these that was probably meant.
pub(super) fn near<'k>(
    written: &str,
    known: impl Iterator<Item = &'k Arc<str>>,
) -> Option<&'k Arc<str>> {
    let last = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
    let distance = |key: &str| {
        let whole = strsim::damerau_levenshtein(written, key);
        // Who writes only the name means its job.
        whole.min(strsim::damerau_levenshtein(&last(written), &last(key)))
    };
    let close = known.map(|key| (distance(key), key));
    let most = last(written).chars().count().max(3) / 3;
    close
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, key)| key)
}
