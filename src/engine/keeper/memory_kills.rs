//! Kills for memory: which of them are told, and which are the reason of an end.
//!
//! The kernel counts a kill before its victim has the signal, and says neither when that one is
//! dead nor which process it is. So a kill that is seen stays *open* for a moment: an end in it is
//! blamed on memory. After that, if the first process is not dying, it was another process, which
//! is told. Pure: counts and times in, an answer out.

/// From a kill to the death of its victim, or of a process that needed it, microseconds.
const MOMENT_US: u64 = 1_000_000;
/// cgroup v1 tells a while before it counts, microseconds.
const SOON_US: u64 = 50_000;

/// What is known of the processes of a run that the kernel killed for memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MemoryKills {
    /// How many have been told of.
    told: u64,
    /// How many had been counted when the present moment began; more than `told`: it is open.
    counted: u64,
    /// When the present moment began, microseconds of CLOCK_BOOTTIME.
    counted_at: u64,
    /// When the kernel last said that something happened, microseconds of CLOCK_BOOTTIME.
    event_at: u64,
}

/// What follows from a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// How many kills to tell of.
    pub tell: u64,
    /// When to look again, microseconds of CLOCK_BOOTTIME.
    pub again: Option<u64>,
}

impl MemoryKills {
    /// Of a run of which so many kills have been told.
    pub fn told(told: u64) -> MemoryKills {
        MemoryKills {
            told,
            counted: told,
            ..MemoryKills::default()
        }
    }

    /// The kernel says that something happened.
    pub fn event(&mut self, clock: u64) {
        self.event_at = clock;
    }

    /// The kernel has counted `kills` by now; `is_dying` says so of the run's first process.
    pub fn look(&mut self, kills: u64, clock: u64, is_dying: bool) -> Looked {
        let mut looked = Looked::default();
        if self.counted > self.told {
            let until = self.counted_at + MOMENT_US;
            if clock < until {
                looked.again = Some(until);
                return looked;
            }
            if is_dying {
                // The end, which is near, says it.
                return looked;
            }
            looked.tell = self.counted - self.told;
            self.told = self.counted;
        }
        if kills > self.counted {
            self.counted = kills;
            self.counted_at = clock;
            looked.again = Some(clock + MOMENT_US);
        } else {
            let looks = [self.event_at + SOON_US, self.event_at + MOMENT_US];
            looked.again = looks.into_iter().find(|at| *at > clock);
        }
        looked
    }

    /// How many of `kills` have not been told: those that may be the reason of an end.
    pub fn open(&self, kills: u64) -> u64 {
        kills.saturating_sub(self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 77_000_000;

    /// Nothing is told, and there is nothing to look at again.
    const NOTHING: Looked = Looked {
        tell: 0,
        again: None,
    };

    fn again(at: u64) -> Looked {
        Looked {
            tell: 0,
            again: Some(at),
        }
    }

    #[test]
    fn the_victim_is_still_alive_when_the_kernel_counts() {
        let mut kills = MemoryKills::default();
        kills.event(T);
        assert_eq!(kills.look(1, T, false), again(T + MOMENT_US));
        assert_eq!(kills.open(1), 1, "an end now is blamed on it");
        // It takes long to die: nothing is told of it while it does.
        assert_eq!(kills.look(1, T + MOMENT_US, true), NOTHING);
        assert_eq!(kills.open(1), 1);
    }

    #[test]
    fn another_process_is_told_and_blamed_for_nothing_later() {
        let mut kills = MemoryKills::default();
        kills.event(T);
        kills.look(2, T, false);
        let looked = kills.look(2, T + MOMENT_US, false);
        assert_eq!(looked.tell, 2);
        assert_eq!(kills.open(2), 0);
        assert_eq!(kills.open(3), 1, "a kill that was not looked at");
    }

    #[test]
    fn a_kill_in_the_same_look_as_an_older_one_is_told_is_open() {
        let mut kills = MemoryKills::default();
        kills.event(T);
        kills.look(1, T, false);
        let looked = kills.look(2, T + MOMENT_US, false);
        let expected = Looked {
            tell: 1,
            again: Some(T + 2 * MOMENT_US),
        };
        assert_eq!(looked, expected);
        assert_eq!(kills.open(2), 1);
    }

    #[test]
    fn an_event_before_its_kill_is_looked_at_soon_and_once_more() {
        let mut kills = MemoryKills::default();
        kills.event(T);
        assert_eq!(kills.look(0, T, false), again(T + SOON_US));
        assert_eq!(kills.look(0, T + SOON_US, false), again(T + MOMENT_US));
        assert_eq!(kills.look(0, T + MOMENT_US, false), NOTHING);
        let mut late = kills;
        assert_eq!(late.look(1, T + MOMENT_US, false), again(T + 2 * MOMENT_US));
    }

    #[test]
    fn a_successor_tells_nothing_twice() {
        let mut kills = MemoryKills::told(3);
        kills.event(T);
        kills.look(3, T, false);
        assert_eq!(kills.look(3, T + MOMENT_US, false), NOTHING);
        assert_eq!(kills.open(3), 0);
        assert_eq!(kills.open(4), 1);
    }
}
