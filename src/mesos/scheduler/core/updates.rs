//! Rolling updates: from one version to another, some instances at a time, and back when that
//! fails.

use std::sync::Arc;

use super::{
    core::SchedulerCore,
    state::{JobState, Key, Kind, Outcome, Step, Update, UpdateStage},
    timers::Timer,
};
use crate::{
    mesos::protocol::messages::TaskState,
    protocols::dewar::scheduler::{KillRequested, RemoveInstances, UpdateState, UpdateStep, Want},
    task::UpdateConfig,
};

/// How far the change of one instance is.
enum ChangeProgress {
    Done,
    /// Not done; look again at this time, in milliseconds since 1970.
    At(u64),
    /// Not done; a state of its task will come.
    Wait,
}

impl SchedulerCore {
    /// How the job's present update replaces instances, as its target version says.
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

    /// Takes the next steps of a job's update, unless it is paused. Without a master the results of
    /// the last steps are not known, and the update stands still.
    pub(super) fn advance_update(&mut self, key: &Key) {
        if self.connected.is_none() || self.running_update(key).is_none() {
            return;
        }
        let config = self.update_config(key);
        self.finish_steps(key, &config);
        let Some(update) = self.running_update(key) else {
            return;
        };
        let working = update.at(Step::Working).len();
        let failed = update.at(Step::Failed).len();
        let waiting = update.at(Step::Waiting);
        let is_back = update.is_back();
        if failed > config.max_total_failures as usize {
            let reason = self.failed_because(key);
            let can_go_back = config.rollback_on_failure && !is_back && !update.is_restart;
            let stage = match can_go_back {
                true => UpdateStage::RollingBack,
                false => UpdateStage::UpdateFailed,
            };
            return self.set_stage(key, stage, &reason);
        }
        if working == 0 && waiting.is_empty() {
            let (stage, reason) = match is_back {
                true => (UpdateStage::RolledBack, update.reason.clone()),
                false => (UpdateStage::RolledForward, String::new()),
            };
            return self.set_stage(key, stage, &reason);
        }
        let room = match config.wait_for_batch && working > 0 {
            true => 0,
            false => (config.batch_size as usize).saturating_sub(working),
        };
        let next: Vec<u32> = match is_back {
            true => waiting.iter().rev().take(room).copied().collect(),
            false => waiting.iter().take(room).copied().collect(),
        };
        for number in next {
            self.begin_change(key, number);
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
        let working: Vec<(u32, Option<u32>, u32)> = update
            .at(Step::Working)
            .iter()
            .filter_map(|number| {
                let change = update.changes.get(number)?;
                Some((*number, update.target(change), change.failures))
            })
            .collect();
        let watch_ms = config.watch.as_micros() / 1000;
        for (number, target, failures) in working {
            let Some(job) = self.state.jobs.get(key) else {
                return;
            };
            match self.change_progress(job, number, target, watch_ms) {
                ChangeProgress::Done => self.fact(Kind::UpdateStep(UpdateStep {
                    job: key.to_string(),
                    instance: number,
                    step: Step::Done.into(),
                    failures,
                })),
                ChangeProgress::At(at) => self.timers.set(at, Timer::Job(Arc::clone(key))),
                ChangeProgress::Wait => {}
            }
        }
    }

    fn change_progress(
        &self,
        job: &JobState,
        number: u32,
        target: Option<u32>,
        watch_ms: u64,
    ) -> ChangeProgress {
        let instance = job.instances.get(&number);
        let Some(target) = target else {
            return match instance {
                None => ChangeProgress::Done,
                Some(_) => ChangeProgress::Wait,
            };
        };
        let Some(instance) = instance else {
            return ChangeProgress::Wait;
        };
        // An instance that failed for good has failed its step, or had failed before the update and
        // is put back.
        if instance.outcome != Outcome::Open && instance.wanted == Some(target) {
            return ChangeProgress::Done;
        }
        if instance
            .task
            .is_some_and(|serial| self.is_unconfirmed(serial))
        {
            return ChangeProgress::Wait;
        }
        let task = instance
            .task
            .and_then(|serial| self.state.tasks.get(&serial));
        let Some(task) = task.filter(|task| task.version == target && !task.kill_requested) else {
            return ChangeProgress::Wait;
        };
        match task.working_since {
            Some(since) if task.state == TaskState::TaskRunning => {
                let at = since + watch_ms;
                match at <= self.now {
                    true => ChangeProgress::Done,
                    false => ChangeProgress::At(at),
                }
            }
            _ => ChangeProgress::Wait,
        }
    }

    /// Begins to change one instance. The step is noted last: a journal that ends before it makes
    /// the change begin again.
    fn begin_change(&mut self, key: &Key, number: u32) {
        let Some(job) = self.state.jobs.get(key) else {
            return;
        };
        let Some(update) = &job.update else { return };
        let Some(change) = update.changes.get(&number) else {
            return;
        };
        let to = update.target(change);
        let outcome = match update.is_back() {
            true => change.outcome,
            false => Outcome::Open,
        };
        let task = job
            .instances
            .get(&number)
            .and_then(|instance| instance.task);
        let task = task.and_then(|serial| Some((serial, self.state.tasks.get(&serial)?)));
        if let Some((serial, task)) = task
            && Some(task.version) != to
        {
            self.request_kill(vec![serial]);
        }
        match to {
            Some(version) => self.fact(Kind::Want(Want {
                job: key.to_string(),
                instances: vec![number],
                version,
                outcome: outcome.number(),
            })),
            None => self.fact(Kind::RemoveInstances(RemoveInstances {
                job: key.to_string(),
                instances: vec![number],
            })),
        }
        // An instance that does not exist is changed at once.
        let job = self.state.jobs.get(key);
        let is_there = job.is_some_and(|job| job.instances.contains_key(&number));
        let step = match is_there {
            true => Step::Working,
            false => Step::Done,
        };
        self.fact(Kind::UpdateStep(UpdateStep {
            job: key.to_string(),
            instance: number,
            step: step.into(),
            failures: 0,
        }));
    }

    pub(super) fn set_stage(&mut self, key: &Key, stage: UpdateStage, reason: &str) {
        self.fact(Kind::UpdateState(UpdateState {
            job: key.to_string(),
            stage: stage.into(),
            reason: reason.to_owned(),
        }));
    }

    /// Asks for the end of these tasks, and goes on asking until they have ended.
    pub(super) fn request_kill(&mut self, serials: Vec<u64>) {
        if serials.is_empty() {
            return;
        }
        self.fact(Kind::KillRequested(KillRequested {
            serials: serials.clone(),
        }));
        for serial in serials {
            self.advance_task(serial);
        }
    }

    /// Which instances failed, and the message of the last failure.
    fn failed_because(&self, key: &Key) -> String {
        let Some(job) = self.state.jobs.get(key) else {
            return String::new();
        };
        let Some(update) = &job.update else {
            return String::new();
        };
        let failing = update.at(Step::Failed);
        let last = failing
            .iter()
            .filter_map(|number| job.instances.get(number)?.last.as_ref())
            .max_by_key(|last| last.at);
        let why = last.map_or_else(String::new, |last| format!(": {}", last.message));
        let named: Vec<String> = failing.iter().take(5).map(u32::to_string).collect();
        let what = match failing.len() {
            1 => "instance",
            _ => "instances",
        };
        format!("{what} {} failed{why}", named.join(", "))
    }
}
