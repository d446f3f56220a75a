//! How long a process pauses before its next run.
//!
//! Constant by default (min_duration). With a back-off it grows with every run in a row that was
//! neither successful nor long, up to a cap, and is lengthened by a part that looks random but
//! follows from the task, the process and the run: the same journal gives the same pauses.

use crate::task::Process;

/// The rules of a process that its pauses follow from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Backoff {
    min_us: u64,
    growth: Option<Growth>,
}

#[derive(Clone, Debug, PartialEq)]
struct Growth {
    factor: f64,
    max_us: u64,
    jitter: f64,
    reset_us: u64,
    seed: u64,
}

impl Backoff {
    /// The rules of `process`; `seed` is the task's.
    pub fn of(process: &Process, index: usize, seed: u64) -> Backoff {
        let growth = process.backoff.as_ref().map(|backoff| Growth {
            factor: backoff.factor,
            max_us: backoff.max.as_micros(),
            jitter: backoff.jitter,
            reset_us: backoff.reset_after.as_micros(),
            seed: mixed(seed ^ mixed(index as u64)),
        });
        Backoff {
            min_us: process.min_duration.as_micros(),
            growth,
        }
    }

    /// True when a run of this length makes earlier failures forgotten.
    pub fn is_long(&self, ran_us: u64) -> bool {
        let growth = self.growth.as_ref();
        growth.is_some_and(|growth| ran_us >= growth.reset_us)
    }

    /// The pause before `run`, after `streak` runs in a row that were neither successful nor long.
    /// Microseconds.
    pub fn pause_us(&self, streak: u32, run: u32) -> u64 {
        let Some(growth) = &self.growth else {
            return self.min_us;
        };
        let steps = i32::try_from(streak.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.min_us as f64 * growth.factor.powi(steps);
        // Saturates; an infinite pause is the longest one.
        let pause = (grown as u64).min(growth.max_us).max(self.min_us);
        let share = mixed(growth.seed ^ u64::from(run)) as f64 / u64::MAX as f64;
        pause.saturating_add((pause as f64 * growth.jitter * share) as u64)
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, 2014).
fn mixed(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{self, Period};

    fn backoff(jitter: f64) -> Backoff {
        let process = Process {
            min_duration: Period::from_secs(1),
            backoff: Some(task::Backoff {
                factor: 2.0,
                max: Period::from_secs(60),
                jitter,
                reset_after: Period::from_secs(600),
            }),
            ..Process::named("p".to_owned())
        };
        Backoff::of(&process, 3, 42)
    }

    #[test]
    fn pauses_grow_up_to_the_cap() {
        let pauses: Vec<u64> = (0..9)
            .map(|streak| backoff(0.0).pause_us(streak, 7) / 1_000_000)
            .collect();
        assert_eq!(pauses, [1, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff(0.0).pause_us(u32::MAX, 7), 60_000_000);
    }

    #[test]
    fn jitter_lengthens_differs_and_repeats() {
        let backoff = backoff(0.5);
        let pauses: Vec<u64> = (0..100).map(|run| backoff.pause_us(3, run)).collect();
        assert!(
            pauses
                .iter()
                .all(|pause| (4_000_000..=6_000_000).contains(pause))
        );
        let distinct: std::collections::BTreeSet<&u64> = pauses.iter().collect();
        assert!(distinct.len() > 90);
        let again: Vec<u64> = (0..100).map(|run| backoff.pause_us(3, run)).collect();
        assert_eq!(pauses, again);
    }

    #[test]
    fn without_growth_the_pause_is_constant() {
        let process = Process::named("p".to_owned());
        let backoff = Backoff::of(&process, 0, 0);
        assert_eq!(backoff.pause_us(50, 50), 5_000_000);
        assert!(!backoff.is_long(u64::MAX));
    }
}
