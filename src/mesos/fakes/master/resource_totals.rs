//! Sums of resources. They are computed apart from the scheduler's, which must agree with them.

use std::collections::{BTreeMap, BTreeSet};

use crate::mesos::protocol::messages::Resource;

/// Scalars in thousandths by name, and ports.
#[derive(Clone, Debug, Default)]
pub(super) struct ResourceTotals {
    pub scalars: BTreeMap<String, i64>,
    pub ports: BTreeSet<u16>,
}

/// Thousandths of a number, in which Mesos counts.
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

    /// Adds all resources of `other`.
    pub fn add(&mut self, other: &ResourceTotals) {
        for (name, amount) in &other.scalars {
            *self.scalars.entry(name.clone()).or_default() += amount;
        }
        self.ports.extend(&other.ports);
    }

    /// Subtracts all resources of `other`; false when they were not all there.
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
