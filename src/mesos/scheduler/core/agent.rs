//! One agent: its offers, and which tasks of this scheduler it runs.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    amounts::{Amounts, Ports},
    state::Key,
};

/// An offer, reduced to what the core needs.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// The offer's id.
    pub id: String,
    /// The agent's id.
    pub agent: Arc<str>,
    /// The agent's host.
    pub hostname: Arc<str>,
    /// The values of its attributes.
    pub attributes: BTreeMap<String, Vec<String>>,
    /// The resources, without ports.
    pub amounts: Amounts,
    /// The free ports.
    pub ports: Ports,
}

/// An agent that has offered something, or runs a task of this scheduler.
#[derive(Debug, Default)]
pub(super) struct Agent {
    pub hostname: Arc<str>,
    /// As last offered; none before the first offer.
    pub attributes: BTreeMap<String, Vec<String>>,
    /// The most of each resource that the agent ever had for this scheduler: offered, and used by
    /// its tasks at that time.
    pub most: Amounts,
    pub most_ports: usize,
    /// It has offered something since the scheduler started, so its resources are known.
    pub has_offered: bool,
    /// The master has given it up; it is known for its tasks only.
    pub is_lost: bool,
    /// What this scheduler's tasks use, their executors included.
    pub used: Amounts,
    /// How many tasks of each job it runs.
    pub jobs: BTreeMap<Key, usize>,
}

impl Agent {
    /// The values of an attribute. `host` is the host's name, as in Aurora.
    pub fn values<'a>(&'a self, attribute: &str) -> Vec<&'a str> {
        match self.attributes.get(attribute) {
            Some(values) => values.iter().map(String::as_str).collect(),
            None if attribute == "host" => vec![&*self.hostname],
            None => Vec::new(),
        }
    }
}

/// All that one agent offers in one event.
#[derive(Debug)]
pub(super) struct Bundle {
    pub offers: Vec<String>,
    pub hostname: Arc<str>,
    pub free: Amounts,
    pub ports: Ports,
    pub launches: Vec<u64>,
}
