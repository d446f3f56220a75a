//! When the sandbox of a task is looked at that is held to its `disk`. Pure: times in, times out.
//!
//! Only a walk tells how much space a directory takes, so it is an interval, and one that follows from what
//! a walk costs: at most a hundredth of the time.

use std::time::Duration;

use crate::{
    resources::DiskUsage,
    task::{Period, Task},
};

/// Walks are at least so far apart, and at most.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(600);
/// Of the time between walks, a walk may take one part in so many.
const SHARE: u32 = 100;

#[derive(Clone, Debug)]
pub(super) struct DiskWatch {
    limit: u64,
    interval: Duration,
    /// `None` while a walk goes on.
    due_at: Option<u64>,
    has_walked: bool,
}

impl DiskWatch {
    /// `None` when the task is not held to a `disk`.
    pub fn of(task: &Task) -> Option<DiskWatch> {
        let resources = task.resources.as_ref().filter(|_| task.enforce)?;
        (resources.disk.0 > 0).then_some(DiskWatch {
            limit: resources.disk.0,
            interval: SHORTEST,
            due_at: Some(0),
            has_walked: false,
        })
    }

    /// Bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Between the end of a walk and the next one.
    pub fn interval(&self) -> Period {
        Period::new(self.interval).unwrap_or_default()
    }

    /// When the next walk is due, microseconds of CLOCK_BOOTTIME.
    pub fn due_at(&self) -> Option<u64> {
        self.due_at
    }

    /// True when it is time: a walk begins.
    pub fn begin(&mut self, now: u64) -> bool {
        self.due_at.take_if(|at| *at <= now).is_some()
    }

    /// A walk is over; true for the first one.
    pub fn walked(&mut self, found: DiskUsage, now: u64) -> bool {
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
        assert!(watch.begin(5));
        assert!(!watch.begin(6), "one at a time");
        let found = |ms| DiskUsage {
            bytes: 1,
            took: Duration::from_millis(ms),
        };
        assert!(watch.walked(found(1), 10));
        assert_eq!(watch.due_at(), Some(2_000_010));
        assert!(watch.begin(2_000_010));
        assert!(!watch.walked(found(500), 2_000_010));
        assert_eq!(watch.interval().to_string(), "50s");
    }
}
