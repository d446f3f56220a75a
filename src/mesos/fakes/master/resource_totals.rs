//! Resources as sums, by a count of its own: the scheduler's must agree with it.

use std::collections::{BTreeMap, BTreeSet};

use crate::mesos::protocol::messages::Resource;

/// Resources as sums.
#[derive(Clone, Debug, Default)]
pub(super) struct ResourceTotals {
    pub scalars: BTreeMap<String, i64>,
    pub ports: BTreeSet<u16>,
}

/// Thousandths, as Mesos counts.
pub(super) fn milli(value: f64) -> i64 {
    (value * 1000.0).round() as i64
}

impl ResourceTotals {
    pub fn of<'r>(resources: impl Iterator<Item = &'r Resource>) -> ResourceTotals {
        let mut totals = ResourceTotals::default();
        for resource in resources {
            if let Some(scalar) = &resource.scalar {
                *totals.scalars.entry(resource.name.clone()).or_default() += milli(scalar.value);
            }
            for range in resource.ranges.iter().flat_map(|ranges| &ranges.range) {
                totals.ports.extend(range.begin as u16..=range.end as u16);
            }
        }
        totals
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &ResourceTotals) {
        for (name, amount) in &other.scalars {
            *self.scalars.entry(name.clone()).or_default() += amount;
        }
        self.ports.extend(&other.ports);
    }

    /// Takes all of `other` out; false when it was not all there.
    pub fn take(&mut self, other: &ResourceTotals) -> bool {
        let mut was_there = true;
        for (name, amount) in &other.scalars {
            let left = self.scalars.entry(name.clone()).or_default();
            *left -= amount;
            was_there &= *left >= 0;
        }
        for port in &other.ports {
            was_there &= self.ports.remove(port);
        }
        was_there
    }
}
