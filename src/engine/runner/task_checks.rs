//! The health checks of one task and of its runs, and the watch over its disk.
//!
//! The rules are in `health_check.rs` and `disk_watch.rs`; here they meet the task's plan and
//! history, and their findings become notes for the journal.

use std::path::PathBuf;

use super::{
    background_work::Attempt,
    health_check::{AttemptResult, HealthCheck, Subject, Verdict},
    launch_orders::is_there,
    running_task::RunningTask,
};
use crate::{
    engine::plan::TaskState,
    journal::{self, Kind, Record},
    protocols::dewar::{link as wire, link::command::Kind as Order},
    resources::DiskUsage,
    sys::clock::now,
    task::{Health, Probe, shown_bytes},
};

/// A file in the sandbox that makes every attempt of a health check a success while it is there.
const SNOOZE: &str = ".healthchecksnooze";

impl RunningTask {
    /// The attempts of health checks that are due now. Scripts are ordered from the keeper; the
    /// other attempts are returned.
    pub(super) fn attempts(&mut self, batch: &mut wire::Batch) -> Vec<Attempt> {
        if !self.has_checks {
            return Vec::new();
        }
        self.renew_checks();
        let clock = now().boot_us;
        let due: Vec<(Subject, Health)> = self
            .checks
            .iter_mut()
            .filter_map(|(subject, check)| {
                check
                    .begin_attempt(clock)
                    .then(|| (*subject, check.rules().clone()))
            })
            .collect();
        let mut attempts = Vec::new();
        let is_snoozed = !due.is_empty() && self.is_snoozing();
        for (subject, health) in due {
            let run = subject.run();
            let timeout = health.timeout.duration();
            match health.probe {
                Probe::Shell(script) if !is_snoozed => {
                    let launch = self.launch_orders.of_probe(&self.model.task, run, &script);
                    if let Some(refusal) = &launch.refusal {
                        self.on_attempt(subject, AttemptResult::failure(refusal), batch);
                        continue;
                    }
                    let probe = wire::Probe {
                        launch: Some(launch),
                        timeout_us: timeout.as_micros() as u64,
                        of_process: run.is_some(),
                        is_check: subject == Subject::Report,
                    };
                    self.order(Order::Probe(probe), batch);
                }
                probe => attempts.push(Attempt {
                    subject,
                    probe,
                    timeout,
                    is_snoozed,
                }),
            }
        }
        attempts
    }

    fn is_snoozing(&self) -> bool {
        is_there(&self.launch_orders.sandbox().join(SNOOZE), &self.model.task)
    }

    /// Begins the checks of new runs, and drops the checks of runs that are over. A run that has
    /// not become its program yet has nothing that could be checked.
    fn renew_checks(&mut self) {
        let plan = &self.model.plan;
        let is_active = plan.state() == Some(TaskState::Active);
        let runs = is_active || plan.state() == Some(TaskState::Finalizing);
        let begun = match runs {
            true => plan.begun(),
            false => Vec::new(),
        };
        self.checks.retain(|subject, _| match subject {
            Subject::Run(process, run) => begun
                .iter()
                .any(|(other, number, _)| (other, number) == (process, run)),
            Subject::Task | Subject::Report => is_active,
        });
        let clock = now().boot_us;
        let task = &self.model.task;
        for (process, run, began_at) in &begun {
            if let Some(health) = &task.processes[*process].health {
                let was_healthy = plan.was_healthy(*process, *run);
                self.checks
                    .entry(Subject::Run(*process, *run))
                    .or_insert_with(|| {
                        HealthCheck::new(health.clone(), was_healthy, *began_at, clock)
                    });
            }
        }
        // The task as a whole is checked once a process of it runs.
        let history = &self.model.history;
        if is_active && history.has_started() {
            let oldest = begun.iter().map(|(.., began_at)| *began_at).min();
            let began_at = oldest.unwrap_or(clock);
            let of_task = [
                (Subject::Task, &task.health, history.healthy() == Some(true)),
                (Subject::Report, &task.check, false),
            ];
            for (subject, health, was_healthy) in of_task {
                if let Some(health) = health {
                    self.checks.entry(subject).or_insert_with(|| {
                        HealthCheck::new(health.clone(), was_healthy, began_at, clock)
                    });
                }
            }
        }
    }

    /// When the next attempt of a health check is due.
    pub(super) fn next_attempt(&self) -> Option<u64> {
        self.checks.values().filter_map(HealthCheck::due_at).min()
    }

    /// Takes in how an attempt ended.
    pub(super) fn on_attempt(
        &mut self,
        subject: Subject,
        result: AttemptResult,
        batch: &mut wire::Batch,
    ) {
        let Some(check) = self.checks.get_mut(&subject) else {
            return;
        };
        let at = now();
        let value = result.value;
        let verdict = check.on_attempt(result.failure, at.boot_us);
        if subject == Subject::Report {
            if self.reported != Some(value) {
                self.reported = Some(value);
                let checked = journal::Checked { value };
                self.note(Record::new(at, Kind::Checked(checked)), batch);
            }
            return;
        }
        let Some(verdict) = verdict else {
            return;
        };
        let (healthy, reason) = match verdict {
            Verdict::Healthy => (true, String::new()),
            Verdict::Unhealthy(reason) => (false, reason),
        };
        let run = subject.run();
        let health = journal::Health {
            process: run.map(|(process, _)| process as u32),
            run: run.map_or(0, |(_, run)| run),
            healthy,
            reason,
        };
        self.note(Record::new(at, Kind::Health(health)), batch);
    }

    /// The sandbox that has to be measured now, if it is time.
    pub(super) fn take_walk(&mut self) -> Option<PathBuf> {
        let is_active = self.model.plan.state() == Some(TaskState::Active);
        let is_due = is_active && self.disk.as_mut()?.begin_walk(now().boot_us);
        is_due.then(|| self.launch_orders.sandbox().to_path_buf())
    }

    /// When the sandbox has to be measured next.
    pub(super) fn next_walk(&self) -> Option<u64> {
        let is_active = self.model.plan.state() == Some(TaskState::Active);
        self.disk.as_ref().filter(|_| is_active)?.due_at()
    }

    /// Takes in what a walk through the sandbox found.
    pub(super) fn on_walk(&mut self, found: DiskUsage, batch: &mut wire::Batch) {
        let Some(disk) = &mut self.disk else { return };
        let at = now();
        let is_first = disk.on_walk(found, at.boot_us);
        let (limit, interval) = (disk.limit(), disk.interval());
        if is_first {
            let notice = journal::Notice {
                text: format!(
                    "the sandbox may take {}; it is looked at every {interval}",
                    shown_bytes(limit)
                ),
                ..journal::Notice::default()
            };
            self.note(Record::new(at, Kind::Notice(notice)), batch);
        }
        let is_active = self.model.plan.state() == Some(TaskState::Active);
        if found.bytes > limit && is_active {
            let exceeded = journal::Exceeded {
                used: found.bytes,
                limit,
            };
            self.note(Record::new(at, Kind::Exceeded(exceeded)), batch);
        }
    }
}
