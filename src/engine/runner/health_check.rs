//! When a health check is due and what its outcomes amount to. Pure: the attempts are made elsewhere.
//!
//! The rules are Aurora's: failures of the first attempts (the grace) are ignored while successes
//! count; enough successes in a row make it healthy, also early; after the grace, too many failures
//! in a row are the end, and so is not having become healthy in time, as soon as that is certain.

use crate::task::Health;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Why it counts as a failure, if it does.
    pub result: Result<(), String>,
    /// An exit code, a status, 1 or 0 for a connection.
    pub value: Option<i32>,
}

impl Outcome {
    pub fn good() -> Outcome {
        Outcome {
            result: Ok(()),
            value: None,
        }
    }

    pub fn bad(why: String) -> Outcome {
        Outcome {
            result: Err(why),
            value: None,
        }
    }
}

/// What follows from an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Healthy,
    Unhealthy(String),
}

/// One check, from its beginning to its verdict.
#[derive(Clone, Debug)]
pub(super) struct Checkup {
    health: Health,
    /// When the next attempt is due; `None` while one is made, and after the end.
    next_at: Option<u64>,
    attempts: u32,
    failures: u32,
    successes: u32,
    is_healthy: bool,
}

impl Checkup {
    /// Begins at `now`, microseconds. `was_healthy`: an earlier runner had found that.
    pub fn new(health: Health, was_healthy: bool, now: u64) -> Checkup {
        Checkup {
            next_at: Some(now.saturating_add(health.delay.as_micros())),
            attempts: match was_healthy {
                true => grace(&health),
                false => 0,
            },
            failures: 0,
            successes: 0,
            is_healthy: was_healthy,
            health,
        }
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    pub fn due_at(&self) -> Option<u64> {
        self.next_at
    }

    /// True when an attempt has to be made now; it is under way from then on.
    pub fn take(&mut self, now: u64) -> bool {
        self.next_at.take_if(|at| *at <= now).is_some()
    }

    /// An attempt came to its end at `now`.
    pub fn attempted(&mut self, outcome: Result<(), String>, now: u64) -> Option<Verdict> {
        self.next_at = Some(now.saturating_add(self.health.interval.as_micros()));
        self.attempts = self.attempts.saturating_add(1);
        let verdict = match outcome {
            Ok(()) => self.succeeded(),
            Err(reason) => self.failed(reason),
        };
        if matches!(verdict, Some(Verdict::Unhealthy(_))) {
            self.next_at = None;
        }
        verdict
    }

    fn succeeded(&mut self) -> Option<Verdict> {
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        if !self.is_healthy && self.successes >= self.health.min_consecutive_successes {
            self.is_healthy = true;
            if self.health.grace_ends_early {
                self.attempts = self.attempts.max(grace(&self.health));
            }
            return Some(Verdict::Healthy);
        }
        self.in_time()
    }

    fn failed(&mut self, reason: String) -> Option<Verdict> {
        self.successes = 0;
        if self.attempts > grace(&self.health) {
            self.failures = self.failures.saturating_add(1);
            if self.failures > self.health.max_consecutive_failures {
                return Some(Verdict::Unhealthy(reason));
            }
        }
        self.in_time()
    }

    /// Fails as soon as the attempts that are left cannot suffice.
    fn in_time(&self) -> Option<Verdict> {
        let health = &self.health;
        let limit = grace(health)
            .saturating_add(health.max_consecutive_failures)
            .saturating_add(health.min_consecutive_successes);
        let left = limit.saturating_sub(self.attempts);
        let needed =
            health.min_consecutive_successes - self.successes.min(health.min_consecutive_successes);
        let is_late = !self.is_healthy && needed > left;
        is_late
            .then(|| Verdict::Unhealthy("not enough successful health checks in time".to_owned()))
    }
}

/// How many attempts are the grace.
fn grace(health: &Health) -> u32 {
    let interval = health.interval.as_micros().max(1);
    let attempts = health.initial_interval.as_micros().div_ceil(interval);
    u32::try_from(attempts).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Period, Probe};

    fn health(initial: u64, failures: u32, successes: u32) -> Health {
        Health {
            probe: Probe::Shell("true".to_owned()),
            delay: Period::from_secs(0),
            initial_interval: Period::from_secs(initial),
            interval: Period::from_secs(10),
            timeout: Period::from_secs(1),
            max_consecutive_failures: failures,
            min_consecutive_successes: successes,
            grace_ends_early: false,
        }
    }

    /// `+` a success, `-` a failure; the verdicts by attempt: H, U, or a dot for none.
    fn course(health: Health, outcomes: &str) -> String {
        let mut checkup = Checkup::new(health, false, 0);
        let verdicts = outcomes.chars().enumerate().map(|(index, outcome)| {
            let result = match outcome {
                '+' => Ok(()),
                _ => Err("no".to_owned()),
            };
            match checkup.attempted(result, index as u64) {
                None => '.',
                Some(Verdict::Healthy) => 'H',
                Some(Verdict::Unhealthy(_)) => 'U',
            }
        });
        verdicts.collect()
    }

    #[test]
    fn courses() {
        // (initial interval, failures, successes), outcomes, verdicts
        for (rules, outcomes, verdicts) in [
            ((0, 0, 1), "+++-", "H..U"),
            ((0, 0, 1), "-", "U"),
            ((15, 0, 1), "--+-", "..HU"),
            ((15, 0, 1), "---", "..U"),
            ((15, 0, 1), "+--", "H.U"),
            ((0, 2, 1), "--+--+---", "..H.....U"),
            ((0, 1, 2), "-++", "..H"),
            ((0, 1, 2), "+-", ".U"),
            ((30, 0, 3), "-+", ".."),
            ((30, 0, 3), "-+++", "...H"),
        ] {
            let (initial, failures, successes) = rules;
            let found = course(health(initial, failures, successes), outcomes);
            assert_eq!(found, verdicts, "{rules:?} {outcomes}");
        }
    }

    #[test]
    fn one_that_was_healthy_has_no_grace_left() {
        let mut checkup = Checkup::new(health(30, 0, 1), true, 0);
        assert!(checkup.take(0) && !checkup.take(0));
        let verdict = checkup.attempted(Err("gone".to_owned()), 5);
        assert_eq!(verdict, Some(Verdict::Unhealthy("gone".to_owned())));
        assert_eq!(checkup.due_at(), None);
    }
}
