//! Rolling updates: from one version to another, some instances at a time, and back when that fails.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    core::{Core, Timer},
    state::{Change, JobState, Key, Kind, Outcome, Step, Update, UpdateStage},
};
use crate::{
    config::UpdateConfig,
    mesos::messages::TaskState,
    protocols::dewar::scheduler::{Doomed, Unwant, UpdateState, UpdateStep, Want},
};

/// How an instance stands that is being changed.
enum Standing {
    Done,
    /// Nothing to do but to look again then.
    At(u64),
    /// Nothing to do but to wait for news.
    Wait,
}

impl Core {
    /// How the job's present update replaces instances: as its target says.
    pub(super) fn update_config(&self, key: &Key) -> UpdateConfig {
        let Some(job) = self.state.jobs.get(key) else {
            return UpdateConfig::default();
        };
        let version = job.update.as_ref().map(|update| update.version);
        let version = version.and_then(|version| job.versions.get(&version));
        let version = version.or(job.current());
        version.map_or_else(UpdateConfig::default, |version| {
            version.config.update.clone()
        })
    }

    /// Takes the next steps of a job's update, if it has one that is not paused.
    pub(super) fn advance_update(&mut self, key: &Key) {
        let config = self.update_config(key);
        self.finish_steps(key, &config);
        let Some(update) = self.running_update(key) else {
            return;
        };
        let count = |step: Step| {
            let changes = update.changes.values();
            changes.filter(|change| change.step == step).count()
        };
        let (working, failed) = (count(Step::Working), count(Step::Failed));
        let is_back = update.is_back();
        if failed > config.max_total_failures as usize {
            let reason = self.failed_because(key, failed);
            let can_go_back = config.rollback_on_failure && !is_back && !update.is_restart;
            let stage = match can_go_back {
                true => UpdateStage::RollingBack,
                false => UpdateStage::UpdateFailed,
            };
            return self.set_stage(key, stage, &reason);
        }
        let room = (config.batch_size as usize).saturating_sub(working);
        let waits_for_batch = config.wait_for_batch && working > 0;
        let next: Vec<(u32, Option<u32>)> = {
            let waiting = |(_, change): &(&u32, &Change)| change.step == Step::Waiting;
            let target = |(number, change): (&u32, &Change)| {
                let to = if is_back { change.from } else { change.to };
                (*number, to)
            };
            let room = if waits_for_batch { 0 } else { room };
            let changes = update.changes.iter();
            match is_back {
                true => changes
                    .rev()
                    .filter(waiting)
                    .take(room)
                    .map(target)
                    .collect(),
                false => changes.filter(waiting).take(room).map(target).collect(),
            }
        };
        if next.is_empty() && working == 0 && count(Step::Waiting) == 0 {
            let stage = match is_back {
                true => UpdateStage::RolledBack,
                false => UpdateStage::RolledForward,
            };
            let reason = match is_back {
                true => update.reason.clone(),
                false => String::new(),
            };
            return self.set_stage(key, stage, &reason);
        }
        for (number, to) in next {
            self.take_in_hand(key, number, to);
        }
    }

    fn running_update(&self, key: &Key) -> Option<&Update> {
        let update = self.state.jobs.get(key)?.update.as_ref()?;
        let runs = matches!(
            update.stage,
            UpdateStage::RollingForward | UpdateStage::RollingBack
        );
        runs.then_some(update)
    }

    /// Looks at every instance that is being changed, and notes those that are done.
    fn finish_steps(&mut self, key: &Key, config: &UpdateConfig) {
        let Some(update) = self.running_update(key) else {
            return;
        };
        let is_back = update.is_back();
        let working: Vec<(u32, Option<u32>, u32)> = update
            .changes
            .iter()
            .filter(|(_, change)| change.step == Step::Working)
            .map(|(number, change)| {
                let target = if is_back { change.from } else { change.to };
                (*number, target, change.failures)
            })
            .collect();
        let watch_ms = config.watch.as_micros() / 1000;
        for (number, target, failures) in working {
            let Some(job) = self.state.jobs.get(key) else {
                return;
            };
            match self.standing(job, number, target, watch_ms) {
                Standing::Done => self.fact(Kind::UpdateStep(UpdateStep {
                    job: key.to_string(),
                    instance: number,
                    step: Step::Done.into(),
                    failures,
                })),
                Standing::At(at) => self.at(at, Timer::Job(Arc::clone(key))),
                Standing::Wait => {}
            }
        }
    }

    fn standing(
        &self,
        job: &JobState,
        number: u32,
        target: Option<u32>,
        watch_ms: u64,
    ) -> Standing {
        let instance = job.instances.get(&number);
        let Some(target) = target else {
            return match instance {
                None => Standing::Done,
                Some(_) => Standing::Wait,
            };
        };
        let Some(instance) = instance else {
            return Standing::Wait;
        };
        if instance.outcome == Outcome::Finished && instance.wanted == Some(target) {
            return Standing::Done;
        }
        let task = instance
            .task
            .and_then(|serial| self.state.tasks.get(&serial));
        let Some(task) = task.filter(|task| task.version == target && !task.doomed) else {
            return Standing::Wait;
        };
        match task.working_since {
            Some(since) if task.state == TaskState::TaskRunning => {
                let at = since + watch_ms;
                match at <= self.now {
                    true => Standing::Done,
                    false => Standing::At(at),
                }
            }
            _ => Standing::Wait,
        }
    }

    /// Begins to change one instance.
    fn take_in_hand(&mut self, key: &Key, number: u32, to: Option<u32>) {
        self.fact(Kind::UpdateStep(UpdateStep {
            job: key.to_string(),
            instance: number,
            step: Step::Working.into(),
            failures: 0,
        }));
        let job = self.state.jobs.get(key);
        let instance = job.and_then(|job| job.instances.get(&number));
        let task = instance.and_then(|instance| instance.task);
        match to {
            Some(version) => self.fact(Kind::Want(Want {
                job: key.to_string(),
                instances: vec![number],
                version,
            })),
            None => self.fact(Kind::Unwant(Unwant {
                job: key.to_string(),
                instances: vec![number],
            })),
        }
        let task = task.and_then(|serial| Some((serial, self.state.tasks.get(&serial)?)));
        if let Some((serial, task)) = task
            && Some(task.version) != to
        {
            self.doom(vec![serial]);
        }
        // Where nothing was there is nothing to wait for.
        let is_gone = to.is_none()
            && self
                .state
                .jobs
                .get(key)
                .is_some_and(|job| !job.instances.contains_key(&number));
        if is_gone {
            self.fact(Kind::UpdateStep(UpdateStep {
                job: key.to_string(),
                instance: number,
                step: Step::Done.into(),
                failures: 0,
            }));
        }
    }

    pub(super) fn set_stage(&mut self, key: &Key, stage: UpdateStage, reason: &str) {
        self.fact(Kind::UpdateState(UpdateState {
            job: key.to_string(),
            stage: stage.into(),
            reason: reason.to_owned(),
        }));
    }

    /// These tasks are to end.
    pub(super) fn doom(&mut self, serials: Vec<u64>) {
        if serials.is_empty() {
            return;
        }
        self.fact(Kind::Doomed(Doomed {
            serials: serials.clone(),
        }));
        for serial in serials {
            self.consider_task(serial);
        }
    }

    /// Which instances failed, and the words of the last one's end.
    fn failed_because(&self, key: &Key, failed: usize) -> String {
        let Some(job) = self.state.jobs.get(key) else {
            return String::new();
        };
        let failing: BTreeSet<u32> = job
            .update
            .iter()
            .flat_map(|update| &update.changes)
            .filter(|(_, change)| change.step == Step::Failed)
            .map(|(number, _)| *number)
            .collect();
        let last = failing
            .iter()
            .filter_map(|number| job.instances.get(number)?.last.as_ref())
            .max_by_key(|last| last.at);
        let why = last.map_or_else(String::new, |last| format!(": {}", last.message));
        let named: Vec<String> = failing.iter().take(5).map(u32::to_string).collect();
        let (what, named) = (
            if failed == 1 { "instance" } else { "instances" },
            named.join(", "),
        );
        format!("{what} {named} failed{why}")
    }
}
