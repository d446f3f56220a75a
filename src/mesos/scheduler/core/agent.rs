//! One agent: its offers, and what runs there.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    amounts::{Amounts, Ports},
    state::Key,
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

/// All that one agent offers in one go.
#[derive(Debug)]
pub(super) struct Bundle {
    pub offers: Vec<String>,
    pub hostname: Arc<str>,
    pub free: Amounts,
    pub ports: Ports,
    pub launches: Vec<u64>,
}
