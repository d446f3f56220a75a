//! When a health check is due, and what its attempts amount to.
//!
//! Pure: times and results in, verdicts out; the attempts are made elsewhere. The rules are
//! Aurora's. Failures of the first attempts (the grace) are ignored, while successes count: enough
//! successes in a row make the subject healthy, also during the grace. After the grace, too many
//! failures in a row make it unhealthy. So does not having become healthy in time, as soon as that
//! is certain.

use std::fmt;

use crate::task::Health;

/// The subject of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// Whether the task as a whole works.
    Task,
    /// Whether this run of this process works.
    Run(usize, u32),
    /// The task's `check`, whose result is only reported.
    Report,
}

impl Subject {
    /// The process and the run, if it is about one.
    pub fn run(self) -> Option<(usize, u32)> {
        match self {
            Subject::Run(process, run) => Some((process, run)),
            Subject::Task | Subject::Report => None,
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AttemptResult {
    /// Why it counts as a failure, if it does.
    pub failure: Option<String>,
    /// The exit code of a script, the status of an answer, 1 or 0 for a connection.
    pub value: Option<i32>,
}

impl AttemptResult {
    /// An attempt that succeeded without a value.
    pub fn success() -> AttemptResult {
        AttemptResult {
            failure: None,
            value: None,
        }
    }

    /// An attempt that failed without a value.
    pub fn failure(why: &impl fmt::Display) -> AttemptResult {
        AttemptResult {
            failure: Some(why.to_string()),
            value: None,
        }
    }
}

/// The conclusion from an attempt and those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Healthy,
    /// With the reason.
    Unhealthy(String),
}

/// One health check, from its beginning to its verdict.
#[derive(Clone, Debug)]
pub(super) struct HealthCheck {
    health: Health,
    /// When the next attempt is due; `None` while one is made, and after the end.
    next_at: Option<u64>,
    attempts: u32,
    failures: u32,
    successes: u32,
    is_healthy: bool,
}

impl HealthCheck {
    /// A check that begins at `now`, microseconds of CLOCK_BOOTTIME. `was_healthy` says that an
    /// earlier runner found the subject healthy.
    pub fn new(health: Health, was_healthy: bool, now: u64) -> HealthCheck {
        HealthCheck {
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

    /// The rules of the check.
    pub fn rules(&self) -> &Health {
        &self.health
    }

    /// When the next attempt is due, microseconds of CLOCK_BOOTTIME.
    pub fn due_at(&self) -> Option<u64> {
        self.next_at
    }

    /// True when an attempt has to be made now; it is under way from then on.
    pub fn begin_attempt(&mut self, now: u64) -> bool {
        self.next_at.take_if(|at| *at <= now).is_some()
    }

    /// Takes in that an attempt ended at `now`: well, or with this failure.
    pub fn on_attempt(&mut self, failure: Option<String>, now: u64) -> Option<Verdict> {
        self.next_at = Some(now.saturating_add(self.health.interval.as_micros()));
        self.attempts = self.attempts.saturating_add(1);
        let verdict = match failure {
            None => self.succeeded(),
            Some(reason) => self.failed(reason),
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

    /// Unhealthy as soon as the attempts that are left cannot make it healthy.
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

/// How many attempts the grace has.
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

    /// The verdicts by attempt (H, U, or a dot for none) of outcomes (`+` a success, `-` a
    /// failure).
    fn course(health: Health, outcomes: &str) -> String {
        let mut check = HealthCheck::new(health, false, 0);
        let verdicts = outcomes.chars().enumerate().map(|(index, outcome)| {
            let failure = match outcome {
                '+' => None,
                _ => Some("no".to_owned()),
            };
            match check.on_attempt(failure, index as u64) {
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
        let mut check = HealthCheck::new(health(30, 0, 1), true, 0);
        assert!(check.begin_attempt(0) && !check.begin_attempt(0));
        let verdict = check.on_attempt(Some("gone".to_owned()), 5);
        assert_eq!(verdict, Some(Verdict::Unhealthy("gone".to_owned())));
        assert_eq!(check.due_at(), None);
    }
}
