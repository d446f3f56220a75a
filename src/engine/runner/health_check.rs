//! When a health check is due, and what its attempts amount to.
//!
//! Pure: times and results in, verdicts out; the attempts are made elsewhere. The rules are
//! Aurora's. Failures within the grace are ignored, while successes count: enough successes in a
//! row make the subject healthy, also during the grace. After the grace, too many failures in a row
//! make it unhealthy. So does not having become healthy in time, as soon as that is certain.
//!
//! The grace is a time, which begins with the subject and not with the runner that looks at it: a
//! failure counts when it is known after the grace, so that what never works is found out an
//! interval and a time-out later at the latest. For what Aurora's data ask for, the grace is the
//! attempts that fit into that time, as it was there.

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

/// The time or the attempts whose failures are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grace {
    /// Until this moment, microseconds of CLOCK_BOOTTIME.
    Until(u64),
    /// So many attempts from now on.
    Attempts(u32),
}

impl Grace {
    const OVER: Grace = Grace::Attempts(0);

    /// The grace of a check whose first attempt is due at `from`.
    fn of(health: &Health, from: u64) -> Grace {
        let initial = health.initial_interval.as_micros();
        match health.grace_is_time {
            true => Grace::Until(from.saturating_add(initial)),
            false => {
                let attempts = initial.div_ceil(health.interval.as_micros().max(1));
                Grace::Attempts(u32::try_from(attempts).unwrap_or(u32::MAX))
            }
        }
    }

    /// True when an attempt that has ended at `now` is within the grace.
    fn takes(&mut self, now: u64) -> bool {
        match self {
            Grace::Until(at) => now < *at,
            Grace::Attempts(0) => false,
            Grace::Attempts(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// One health check, from its beginning to its verdict.
#[derive(Clone, Debug)]
pub(super) struct HealthCheck {
    health: Health,
    /// When the next attempt is due; `None` while one is made, and after the end.
    next_at: Option<u64>,
    grace: Grace,
    /// Attempts after the grace.
    attempts: u32,
    failures: u32,
    successes: u32,
    is_healthy: bool,
}

impl HealthCheck {
    /// The check of a subject that began at `began_at`, seen at `now`; microseconds of
    /// CLOCK_BOOTTIME. `was_healthy` says that an earlier runner found the subject healthy.
    pub fn new(health: Health, was_healthy: bool, began_at: u64, now: u64) -> HealthCheck {
        let first = began_at.min(now).saturating_add(health.delay.as_micros());
        HealthCheck {
            next_at: Some(first.max(now)),
            grace: match was_healthy {
                true => Grace::OVER,
                false => Grace::of(&health, first),
            },
            attempts: 0,
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
        let in_grace = self.grace.takes(now);
        self.attempts = self.attempts.saturating_add(u32::from(!in_grace));
        let verdict = match failure {
            None => self.succeeded(),
            Some(reason) => self.failed(reason, in_grace),
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
                self.grace = Grace::OVER;
            }
            return Some(Verdict::Healthy);
        }
        self.in_time()
    }

    fn failed(&mut self, reason: String, in_grace: bool) -> Option<Verdict> {
        self.successes = 0;
        if !in_grace {
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
        let limit = health
            .max_consecutive_failures
            .saturating_add(health.min_consecutive_successes);
        let left = limit.saturating_sub(self.attempts);
        let needed =
            health.min_consecutive_successes - self.successes.min(health.min_consecutive_successes);
        let is_late = !self.is_healthy && needed > left;
        is_late
            .then(|| Verdict::Unhealthy("not enough successful health checks in time".to_owned()))
    }
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
            grace_is_time: false,
        }
    }

    /// The verdicts by attempt (H, U, or a dot for none) of outcomes (`+` a success, `-` a
    /// failure).
    fn course(health: Health, outcomes: &str) -> String {
        let mut check = HealthCheck::new(health, false, 0, 0);
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
    fn courses_of_a_grace_of_attempts() {
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
    fn the_same_courses_when_the_grace_is_a_time() {
        // An attempt a second; (initial interval, failures, successes), outcomes, verdicts.
        for (rules, outcomes, verdicts) in [
            ((0, 0, 1), "+++-", "H..U"),
            ((0, 0, 1), "-", "U"),
            ((2, 0, 1), "--+-", "..HU"),
            ((2, 0, 1), "---", "..U"),
            ((2, 0, 1), "+--", "H.U"),
            ((0, 2, 1), "--+--+---", "..H.....U"),
            ((0, 1, 2), "-++", "..H"),
            ((0, 1, 2), "+-", ".U"),
            ((3, 0, 3), "-+", ".."),
            ((3, 0, 3), "-+++", "...H"),
        ] {
            let (initial, failures, successes) = rules;
            let rules = Health {
                grace_is_time: true,
                ..health(initial, failures, successes)
            };
            let mut check = HealthCheck::new(rules.clone(), false, 0, 0);
            let verdicts_found: String = outcomes
                .chars()
                .enumerate()
                .map(|(index, outcome)| {
                    let failure = (outcome != '+').then(|| "no".to_owned());
                    match check.on_attempt(failure, index as u64 * 1_000_000) {
                        None => '.',
                        Some(Verdict::Healthy) => 'H',
                        Some(Verdict::Unhealthy(_)) => 'U',
                    }
                })
                .collect();
            assert_eq!(verdicts_found, verdicts, "{rules:?} {outcomes}");
        }
    }

    /// When a subject that never works is found out, if each attempt takes `takes` microseconds.
    fn found_out_at(health: &Health, takes: u64) -> u64 {
        let mut check = HealthCheck::new(health.clone(), false, 0, 0);
        let mut now = 0;
        loop {
            now = check.due_at().expect("an attempt").max(now);
            assert!(check.begin_attempt(now));
            now += takes;
            if let Some(Verdict::Unhealthy(_)) = check.on_attempt(Some("no".to_owned()), now) {
                return now;
            }
        }
    }

    #[test]
    fn what_never_works_is_found_out_an_interval_and_a_time_out_after_the_grace() {
        let millis = |ms| Period::new(std::time::Duration::from_millis(ms)).unwrap();
        for (initial, interval, timeout) in [(2000, 100, 2000), (2000, 1500, 10), (0, 100, 700)] {
            let rules = Health {
                initial_interval: millis(initial),
                interval: millis(interval),
                timeout: millis(timeout),
                grace_is_time: true,
                ..health(0, 0, 1)
            };
            for takes in [0, 1, timeout / 3, timeout] {
                let found = found_out_at(&rules, takes * 1000);
                let latest = (initial + interval + timeout) * 1000;
                assert!(
                    (initial * 1000..=latest).contains(&found),
                    "{rules:?} {takes}: {found}"
                );
            }
        }
        // Aurora's: twenty attempts are the grace, however long they take.
        let aurora = Health {
            interval: millis(100),
            initial_interval: millis(2000),
            ..health(0, 0, 1)
        };
        assert_eq!(found_out_at(&aurora, 2_000_000), 21 * 2_100_000 - 100_000);
    }

    #[test]
    fn the_grace_begins_with_the_run_and_not_with_its_runner() {
        let rules = Health {
            delay: Period::from_secs(3),
            grace_is_time: true,
            ..health(10, 0, 1)
        };
        // The run is 12 seconds old: its delay is over, and a second of its grace is left.
        let mut check = HealthCheck::new(rules, false, 1_000_000, 13_000_000);
        assert_eq!(check.due_at(), Some(13_000_000));
        assert_eq!(check.on_attempt(Some("no".to_owned()), 13_999_999), None);
        let verdict = check.on_attempt(Some("no".to_owned()), 14_000_000);
        assert_eq!(verdict, Some(Verdict::Unhealthy("no".to_owned())));
    }

    #[test]
    fn one_that_was_healthy_has_no_grace_left() {
        let mut check = HealthCheck::new(health(30, 0, 1), true, 0, 0);
        assert!(check.begin_attempt(0) && !check.begin_attempt(0));
        let verdict = check.on_attempt(Some("gone".to_owned()), 5);
        assert_eq!(verdict, Some(Verdict::Unhealthy("gone".to_owned())));
        assert_eq!(check.due_at(), None);
    }
}
