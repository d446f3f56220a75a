//! When a process of ours gives memory back: after a pause, or when it has had none for long.
//!
//! Root, keeper and runner mostly wait, and then what a busy time took is to be given back. One
//! that is woken again and again has no pause; it gives back in the middle of its work, and what
//! it needs comes back when it is touched. Pure: time comes in, nothing is given back here, and
//! nothing has to wake up for what is overdue.

/// After a pause of this length memory is given back, microseconds: less than the time between two
/// health checks that are as frequent as they get.
pub const SETTLE_US: u64 = 40_000;
/// Without a pause memory is given back after this time, microseconds.
const LONGEST_US: u64 = 1_000_000;

/// Whether something happened since memory was last given back, and since when.
#[derive(Debug)]
pub struct Restless {
    since: Option<u64>,
}

impl Restless {
    /// Of a process that has just begun, which takes memory.
    pub fn begun(clock: u64) -> Restless {
        Restless { since: Some(clock) }
    }

    /// Something happened, for which memory may have been taken.
    pub fn stir(&mut self, clock: u64) {
        self.since.get_or_insert(clock);
    }

    /// True when there may be memory to give back.
    pub fn is_restless(&self) -> bool {
        self.since.is_some()
    }

    /// True when memory is to be given back before the next wait, although there was no pause.
    pub fn is_overdue(&self, clock: u64) -> bool {
        let until = |since: u64| since.saturating_add(LONGEST_US);
        self.since.is_some_and(|since| until(since) <= clock)
    }

    /// Memory is being given back.
    pub fn settle(&mut self) {
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_a_pause_and_at_times_without_one() {
        let mut restless = Restless::begun(100);
        assert!(restless.is_restless() && !restless.is_overdue(99 + LONGEST_US));
        restless.stir(50 + LONGEST_US);
        assert!(
            restless.is_overdue(100 + LONGEST_US),
            "busy since the beginning"
        );
        restless.settle();
        assert!(!restless.is_restless() && !restless.is_overdue(u64::MAX));
        restless.stir(7);
        assert!(restless.is_restless() && !restless.is_overdue(8));
    }
}
