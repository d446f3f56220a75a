//! What each kind of fact does to the state. The facts of a journal, applied in order, give the
//! same state again.

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc};

use super::{
    amounts::Amounts,
    state::{
        Change, Ended, Fact, Flapping, Instance, JobState, Key, Kind, Outcome, State, Step, Task,
        Update, UpdateStage, Version, is_over,
    },
};
use crate::{mesos::protocol::messages::TaskState, protocols::dewar::scheduler as wire, task::Job};

/// How many agents an instance avoids at most.
const AVOIDED: usize = 3;

impl State {
    /// Takes in a fact of `at`, milliseconds since 1970. A fact about something that is not known
    /// changes nothing.
    pub fn apply(&mut self, fact: &Fact, at: u64, flapping: &Flapping) {
        match &fact.kind {
            Some(Kind::Framework(framework)) => self.framework = Some(framework.id.clone()),
            Some(Kind::Version(version)) => self.add_version(version),
            Some(Kind::Want(want)) => {
                if let Some(job) = self.jobs.get_mut(want.job.as_str()) {
                    for number in &want.instances {
                        job.want(*number, want.version, Outcome::of(want.outcome), at);
                    }
                    job.drop_versions();
                }
            }
            Some(Kind::RemoveInstances(removal)) => {
                if let Some(job) = self.jobs.get_mut(removal.job.as_str()) {
                    for number in &removal.instances {
                        if let Some(instance) = job.instances.get_mut(number) {
                            instance.wanted = None;
                        }
                        job.tidy(*number);
                    }
                }
            }
            Some(Kind::Removed(removed)) => drop(self.jobs.remove(removed.job.as_str())),
            Some(Kind::Launched(launched)) => self.launched(launched, at),
            Some(Kind::Status(status)) => self.status(status, at, flapping),
            Some(Kind::KillRequested(requested)) => {
                for serial in &requested.serials {
                    if let Some(task) = self.tasks.get_mut(serial) {
                        task.kill_requested = true;
                    }
                }
            }
            Some(Kind::Superseded(superseded)) => self.superseded(superseded.serial, at),
            Some(Kind::Forgotten(forgotten)) => drop(self.remove_task(forgotten.serial)),
            Some(Kind::Update(update)) => self.update(update),
            Some(Kind::UpdateStep(step)) => self.step(step),
            Some(Kind::UpdateState(state)) => self.stage(state),
            Some(Kind::Quota(quota)) => {
                let amounts = Amounts::of([quota.cpus, quota.mem, quota.disk, quota.gpus]);
                match quota.is_removed {
                    true => drop(self.quotas.remove(&quota.role)),
                    false => drop(self.quotas.insert(quota.role.clone(), amounts)),
                }
            }
            Some(Kind::Drain(drain)) => match drain.is_over {
                true => drop(self.drained.remove(&drain.hostname)),
                false => drop(self.drained.insert(drain.hostname.clone())),
            },
            Some(Kind::Instance(instance)) => self.restore(instance),
            Some(Kind::Serial(serial)) => self.serial = self.serial.max(serial.serial),
            None => self.unreadable = Some("a fact of a later version".to_owned()),
        }
    }

    fn add_version(&mut self, version: &wire::Version) {
        let config = match serde_json::from_str::<Job>(&version.config) {
            Ok(config) => config,
            Err(error) => {
                // Only a later version of dewar writes what this one cannot read. Without the
                // configuration its tasks would count as unknown, and be killed.
                let why = format!("a configuration of {}: {error}", version.job);
                self.unreadable.get_or_insert(why);
                return;
            }
        };
        let amounts = Amounts::of_job(&config);
        let key: Key = version.job.as_str().into();
        let job = self.jobs.entry(key).or_insert_with(|| JobState {
            versions: BTreeMap::new(),
            current: version.version,
            instances: BTreeMap::new(),
            live: BTreeMap::new(),
            update: None,
        });
        let known = Arc::new(Version { config, amounts });
        job.versions.insert(version.version, known);
        if version.is_current {
            job.current = version.version;
            // A snapshot has the versions before the instances that need them.
            if !job.instances.is_empty() {
                job.drop_versions();
            }
        }
    }

    fn launched(&mut self, launched: &wire::Launched, at: u64) {
        self.serial = self.serial.max(launched.serial);
        let Some((key, job)) = self.jobs.get_key_value(launched.job.as_str()) else {
            return;
        };
        let task = Task {
            job: Arc::clone(key),
            instance: launched.instance,
            version: launched.version,
            agent: launched.agent_id.as_str().into(),
            hostname: launched.hostname.as_str().into(),
            ports: launched.ports.iter().map(|port| *port as u16).collect(),
            limited: launched.limited.iter().cloned().collect(),
            state: TaskState::TaskStaging,
            healthy: None,
            kill_requested: false,
            superseded: false,
            silent: true,
            launched_at: at,
            since: at,
            working_since: None,
        };
        let key = Arc::clone(key);
        debug_assert!(job.versions.contains_key(&launched.version));
        if let Some(job) = self.jobs.get_mut(&key) {
            *job.live.entry(launched.version).or_default() += 1;
            let instance = job.instances.entry(launched.instance).or_default();
            instance.task = Some(launched.serial);
        }
        self.tasks.insert(launched.serial, task);
    }

    fn status(&mut self, status: &wire::Status, at: u64, flapping: &Flapping) {
        let state = TaskState::try_from(status.state).unwrap_or(TaskState::TaskUnknown);
        if is_over(state) {
            return self.ended(status, state, at, flapping);
        }
        let Some(task) = self.tasks.get_mut(&status.serial) else {
            return;
        };
        task.silent = false;
        if let Some(since) = status.since {
            (task.state, task.healthy) = (state, status.healthy);
            (task.since, task.working_since) = (since, status.working_since);
            return;
        }
        let is_away =
            |state: TaskState| matches!(state, TaskState::TaskUnreachable | TaskState::TaskUnknown);
        if task.state != state && !(is_away(task.state) && is_away(state)) {
            task.since = at;
        }
        task.state = state;
        task.healthy = status.healthy;
        let works = state == TaskState::TaskRunning && status.healthy != Some(false);
        // The return of an agent says nothing about the health of its tasks.
        if task.is_reachable() {
            task.working_since = works.then(|| task.working_since.unwrap_or(at));
        }
    }

    fn ended(&mut self, status: &wire::Status, state: TaskState, at: u64, flapping: &Flapping) {
        let Some(task) = self.remove_task(status.serial) else {
            return;
        };
        let Some(job) = self.jobs.get_mut(&task.job) else {
            return;
        };
        let version = job.versions.get(&task.version).cloned();
        let Some(instance) = job.instances.get_mut(&task.instance) else {
            return;
        };
        if instance.task != Some(status.serial) {
            return;
        }
        instance.last = Some(Ended {
            serial: status.serial,
            state: status.state,
            message: status.message.clone(),
            reason: status.reason.clone(),
            hostname: task.hostname.to_string(),
            at,
        });
        instance.task = None;
        instance.since = at;
        if let Some(version) = version {
            instance.after(&task, &version, state, at, flapping);
        }
        job.tidy(task.instance);
    }

    /// Removes a task, also from its job's count.
    fn remove_task(&mut self, serial: u64) -> Option<Task> {
        let task = self.tasks.remove(&serial)?;
        if let Some(job) = self.jobs.get_mut(&task.job) {
            job.released(task.version);
        }
        Some(task)
    }

    fn superseded(&mut self, serial: u64, at: u64) {
        let Some(task) = self.tasks.get_mut(&serial) else {
            return;
        };
        (task.superseded, task.kill_requested) = (true, true);
        let number = task.instance;
        let Some(job) = self.jobs.get_mut(&task.job) else {
            return;
        };
        if let Some(instance) = job.instances.get_mut(&number)
            && instance.task == Some(serial)
        {
            instance.task = None;
            instance.since = at;
        }
        job.tidy(number);
    }

    fn update(&mut self, update: &wire::Update) {
        let Some(job) = self.jobs.get_mut(update.job.as_str()) else {
            return;
        };
        let changes = update.changes.iter().map(|change| {
            let to = (!change.is_removal).then_some(update.version);
            let change_of = Change {
                from: change.from,
                to,
                step: change.step(),
                touched: change.touched,
                failures: change.failures,
                outcome: Outcome::of(change.outcome),
            };
            (change.instance, change_of)
        });
        let mut begun = Update {
            version: update.version,
            stage: update.stage(),
            reason: update.reason.clone(),
            is_restart: update.is_restart,
            is_whole: update.is_whole,
            changes: changes.collect(),
            by_step: Default::default(),
        };
        begun.sort();
        job.update = Some(begun);
    }

    fn step(&mut self, step: &wire::UpdateStep) {
        let update = self.jobs.get_mut(step.job.as_str());
        let update = update.and_then(|job| job.update.as_mut());
        let Some(update) = update else { return };
        let is_back = update.is_back();
        if let Some(change) = update.changes.get_mut(&step.instance) {
            update.by_step[change.step as usize].remove(&step.instance);
            update.by_step[step.step() as usize].insert(step.instance);
            change.step = step.step();
            change.failures = step.failures;
            change.touched |= !is_back && step.step() != Step::Waiting;
        }
    }

    fn stage(&mut self, state: &wire::UpdateState) {
        let Some(job) = self.jobs.get_mut(state.job.as_str()) else {
            return;
        };
        let Some(update) = &mut job.update else {
            return;
        };
        let was_back = update.is_back();
        update.stage = state.stage();
        update.reason.clone_from(&state.reason);
        if update.is_back() && !was_back {
            // An instance that was not changed has nothing to go back to.
            for change in update.changes.values_mut() {
                change.failures = 0;
                change.step = match change.touched {
                    true => Step::Waiting,
                    false => Step::Done,
                };
            }
            update.sort();
        }
        if update.stage == UpdateStage::RolledForward && update.is_whole {
            job.current = update.version;
        }
        if !update.is_active() {
            job.drop_versions();
        }
    }

    fn restore(&mut self, instance: &wire::Instance) {
        let Some(job) = self.jobs.get_mut(instance.job.as_str()) else {
            return;
        };
        let task = job.instances.get(&instance.instance);
        let known = Instance {
            wanted: instance.version,
            task: task.and_then(|known| known.task),
            failures: instance.failures,
            streak: instance.streak,
            not_before: instance.not_before,
            since: instance.since,
            outcome: Outcome::of(instance.outcome),
            avoid: instance.avoid.clone(),
            last: instance.last.clone(),
        };
        job.instances.insert(instance.instance, known);
    }
}

impl JobState {
    fn want(&mut self, number: u32, version: u32, outcome: Outcome, at: u64) {
        let instance = self.instances.entry(number).or_insert_with(|| Instance {
            since: at,
            ..Instance::default()
        });
        if instance.wanted == Some(version) {
            return;
        }
        *instance = Instance {
            wanted: Some(version),
            outcome,
            task: instance.task,
            last: instance.last.take(),
            since: match instance.task {
                Some(_) => instance.since,
                None => at,
            },
            ..Instance::default()
        };
    }

    /// Removes an instance that is neither wanted nor has a task.
    fn tidy(&mut self, number: u32) {
        let gone = |one: &Instance| one.wanted.is_none() && one.task.is_none();
        if self.instances.get(&number).is_some_and(gone) {
            self.instances.remove(&number);
        }
    }

    /// A task of this version is gone.
    fn released(&mut self, version: u32) {
        if let Some(count) = self.live.get_mut(&version) {
            *count -= 1;
            if *count == 0 {
                self.live.remove(&version);
                self.drop_versions();
            }
        }
    }

    /// Removes configurations that are not needed any more.
    fn drop_versions(&mut self) {
        if self.versions.len() == 1 || self.active_update().is_some() {
            return;
        }
        let wanted = self.instances.values().filter_map(|one| one.wanted);
        let needed: BTreeSet<u32> = wanted
            .chain(self.live.keys().copied())
            .chain([self.current])
            .collect();
        self.versions.retain(|version, _| needed.contains(version));
    }
}

impl Instance {
    /// Decides what follows for an instance whose task has ended.
    fn after(
        &mut self,
        task: &Task,
        version: &Version,
        state: TaskState,
        at: u64,
        flapping: &Flapping,
    ) {
        let config = &version.config;
        // A task of a replaced version counts for nothing: the new version has not been tried.
        if self.wanted != Some(task.version) {
            self.not_before = at;
            return;
        }
        if !config.service && state == TaskState::TaskFinished {
            self.outcome = Outcome::Finished;
            return;
        }
        if task.kill_requested {
            self.not_before = at;
            return;
        }
        let failed = matches!(state, TaskState::TaskFailed | TaskState::TaskError);
        if failed && !config.service {
            self.failures += 1;
            if config.max_task_failures > 0 && self.failures >= config.max_task_failures {
                self.outcome = Outcome::Failed;
                return;
            }
        }
        // A lost task is no failure of the job: its instance is launched again at once. But an
        // agent that loses every task must not get the instance again and again.
        let ran_ms = task
            .working_since
            .map_or(0, |since| at.saturating_sub(since));
        let is_own = failed || state == TaskState::TaskFinished;
        if ran_ms >= flapping.stable_ms {
            (self.streak, self.not_before) = (0, at);
            self.avoid.clear();
            return;
        }
        self.avoid.retain(|agent| **agent != *task.agent);
        self.avoid.push(task.agent.to_string());
        if self.avoid.len() > AVOIDED {
            self.avoid.remove(0);
        }
        if is_own || self.streak > 0 {
            let doubled = flapping.initial_ms << self.streak.min(20);
            self.not_before = at + doubled.min(flapping.max_ms);
        } else {
            self.not_before = at;
        }
        self.streak += 1;
    }
}
