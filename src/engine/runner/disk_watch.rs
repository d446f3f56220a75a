//! When to measure the sandbox of a task that is held to its `disk`.
//!
//! Pure: times in, times out; the walks are made elsewhere. Only a walk through a directory tells
//! how much space it takes. The interval between walks follows from what a walk costs: walks take
//! at most a hundredth of the time.

use std::time::Duration;

use crate::{
    resources::DiskUsage,
    task::{Period, Task},
};

/// The time between two walks, at least.
const SHORTEST: Duration = Duration::from_secs(2);
/// The time between two walks, at most.
const LONGEST: Duration = Duration::from_secs(600);
/// A walk may take one part in so many of the time between two walks.
const SHARE: u32 = 100;

/// The watch over one task's sandbox.
#[derive(Clone, Debug)]
pub(super) struct DiskWatch {
    limit: u64,
    interval: Duration,
    /// `None` while a walk goes on.
    due_at: Option<u64>,
    has_walked: bool,
}

impl DiskWatch {
    /// The watch of a task; `None` when the task is not held to a `disk`.
    pub fn of(task: &Task) -> Option<DiskWatch> {
        let resources = task.resources.as_ref().filter(|_| task.enforce)?;
        (resources.disk.0 > 0).then_some(DiskWatch {
            limit: resources.disk.0,
            interval: SHORTEST,
            due_at: Some(0),
            has_walked: false,
        })
    }

    /// How many bytes the sandbox may take.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The time from the end of a walk to the next one.
    pub fn interval(&self) -> Period {
        Period::new(self.interval).unwrap_or_default()
    }

    /// When the next walk is due, microseconds of CLOCK_BOOTTIME.
    pub fn due_at(&self) -> Option<u64> {
        self.due_at
    }

    /// True when a walk has to be made now; it is under way from then on.
    pub fn begin_walk(&mut self, now: u64) -> bool {
        self.due_at.take_if(|at| *at <= now).is_some()
    }

    /// Takes in that a walk ended at `now`; true for the first one.
    pub fn on_walk(&mut self, found: DiskUsage, now: u64) -> bool {
        let wanted = (found.took * SHARE).clamp(SHORTEST, LONGEST);
        // Whole seconds, for people.
        self.interval = Duration::from_secs(wanted.as_secs());
        self.due_at = Some(now + self.interval.as_micros() as u64);
        !std::mem::replace(&mut self.has_walked, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Bytes, Resources};

    #[test]
    fn a_walk_that_costs_more_is_made_less_often() {
        let mut task = Task::of("t".to_owned(), Vec::new());
        task.resources = Some(Resources {
            disk: Bytes(1000),
            ..Resources::default()
        });
        assert!(DiskWatch::of(&task).is_none());
        task.enforce = true;
        let mut watch = DiskWatch::of(&task).unwrap();
        assert!(watch.begin_walk(5));
        assert!(!watch.begin_walk(6), "one at a time");
        let found = |ms| DiskUsage {
            bytes: 1,
            took: Duration::from_millis(ms),
        };
        assert!(watch.on_walk(found(1), 10));
        assert_eq!(watch.due_at(), Some(2_000_010));
        assert!(watch.begin_walk(2_000_010));
        assert!(!watch.on_walk(found(500), 2_000_010));
        assert_eq!(watch.interval().to_string(), "50s");
    }
}
