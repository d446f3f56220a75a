//! The instances that wait for a place on an agent.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::state::{Instance, Key, Outcome};

/// Waiting instances with the same needs: higher priorities first, then by job and version.
pub(super) type Group = (Reverse<i32>, Key, u32);

/// All instances that wait, in the order in which they are placed.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    groups: BTreeMap<Group, BTreeSet<u32>>,
    /// The group of an instance.
    group_of: BTreeMap<(Key, u32), Group>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// How many instances wait.
    pub(super) fn count(&self) -> usize {
        self.groups.values().map(BTreeSet::len).sum()
    }

    /// The groups, in the order in which they are placed.
    pub(super) fn groups(&self) -> Vec<Group> {
        self.groups.keys().cloned().collect()
    }

    /// The numbers of a group's instances.
    pub(super) fn numbers(&self, group: &Group) -> Vec<u32> {
        let numbers = self.groups.get(group);
        numbers.into_iter().flatten().copied().collect()
    }

    /// Adds an instance to a group.
    pub(super) fn add(&mut self, group: Group, number: u32) {
        let instance = (Arc::clone(&group.1), number);
        self.groups.entry(group.clone()).or_default().insert(number);
        self.group_of.insert(instance, group);
    }

    /// Removes an instance, if it waits.
    pub(super) fn remove(&mut self, key: &Key, number: u32) {
        if let Some(group) = self.group_of.remove(&(Arc::clone(key), number))
            && let Some(numbers) = self.groups.get_mut(&group)
        {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.groups.remove(&group);
            }
        }
    }
}

/// The version that an instance is to be launched in, were there a place.
pub(super) fn needs_place(instance: &Instance) -> Option<u32> {
    let is_free = instance.task.is_none() && instance.outcome == Outcome::Open;
    instance.wanted.filter(|_| is_free)
}
