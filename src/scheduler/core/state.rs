//! What lasts: jobs, instances, live tasks, updates, quotas. It changes by facts only, so the journal's
//! facts, applied in order, give the same state again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::amounts::Amounts;
use crate::{
    config::{Job, Rule},
    mesos::{is_terminal, messages::TaskState},
    protocols::dewar::scheduler as wire,
};

pub use wire::{Ended, Fact, Step, UpdateStage, fact::Kind};

/// `ROLE/ENVIRONMENT/NAME`.
pub type Key = Arc<str>;

/// All that lasts.
#[derive(Debug, Default)]
pub struct State {
    /// What the master calls us.
    pub framework: Option<String>,
    /// Of the task launched last.
    pub serial: u64,
    /// Every job that is not forgotten.
    pub jobs: BTreeMap<Key, JobState>,
    /// Every task that may still be running, by its serial.
    pub tasks: BTreeMap<u64, Task>,
    /// By role.
    pub quotas: BTreeMap<String, Amounts>,
    /// Hosts that are to be empty.
    pub drained: BTreeSet<String>,
    /// A fact that could not be understood: nothing must be decided on such a state.
    pub unreadable: Option<String>,
}

/// One configuration of a job.
#[derive(Debug)]
pub struct Version {
    /// As it was given, resolved.
    pub config: Job,
    /// Of one instance, without its executor.
    pub amounts: Amounts,
}

/// A job and what has become of it.
#[derive(Debug)]
pub struct JobState {
    /// Those that are still needed.
    pub versions: BTreeMap<u32, Arc<Version>>,
    /// Which one instances get that are added.
    pub current: u32,
    /// By their numbers.
    pub instances: BTreeMap<u32, Instance>,
    /// Tasks of it that may still be running, by their versions.
    pub live: BTreeMap<u32, usize>,
    /// The last update.
    pub update: Option<Update>,
}

/// One of a job's instances.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// What it is to run; `None`: it goes when its task has ended.
    pub wanted: Option<u32>,
    /// What runs, or may run, for it.
    pub task: Option<u64>,
    /// Failures, of a job that counts them.
    pub failures: u32,
    /// Short runs, one after the other.
    pub streak: u32,
    /// It waits until then before it is launched again; milliseconds since 1970.
    pub not_before: u64,
    /// It waits for a place since then.
    pub since: u64,
    /// Whether it goes on.
    pub outcome: Outcome,
    /// Agents that it failed on lately.
    pub avoid: Vec<String>,
    /// How its last task ended.
    pub last: Option<Ended>,
}

/// Whether an instance is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    #[default]
    Open,
    /// It ended well.
    Finished,
    /// It failed too often.
    Failed,
}

impl Outcome {
    /// As facts have it.
    fn of(number: u32) -> Outcome {
        match number {
            1 => Outcome::Finished,
            2 => Outcome::Failed,
            _ => Outcome::Open,
        }
    }

    /// For facts.
    pub fn number(self) -> u32 {
        match self {
            Outcome::Open => 0,
            Outcome::Finished => 1,
            Outcome::Failed => 2,
        }
    }
}

/// A task that may still be running.
#[derive(Clone, Debug)]
pub struct Task {
    /// Whose it is.
    pub job: Key,
    /// Which one.
    pub instance: u32,
    /// What it was launched with.
    pub version: u32,
    /// Where.
    pub agent: Arc<str>,
    /// Its agent's host.
    pub hostname: Arc<str>,
    /// In the order of its version's names.
    pub ports: Box<[u16]>,
    /// Its agent's values of the attributes that its job limits.
    pub limited: Box<[String]>,
    /// As last heard.
    pub state: TaskState,
    /// As last heard.
    pub healthy: Option<bool>,
    /// It is to be killed.
    pub doomed: bool,
    /// Its instance went on without it.
    pub superseded: bool,
    /// Nothing was heard of it yet.
    pub silent: bool,
    /// When it was launched; milliseconds since 1970, as the two that follow.
    pub launched_at: u64,
    /// Since when it has been in its state.
    pub since: u64,
    /// Since when it has been running and not unhealthy.
    pub working_since: Option<u64>,
}

/// A rolling update.
#[derive(Clone, Debug)]
pub struct Update {
    /// Where it leads.
    pub version: u32,
    /// How it stands.
    pub stage: UpdateStage,
    /// Why it stands so.
    pub reason: String,
    /// The same configuration again.
    pub is_restart: bool,
    /// Its version becomes the job's.
    pub is_whole: bool,
    /// Instances that change, by number.
    pub changes: BTreeMap<u32, Change>,
    /// The same numbers by their steps.
    by_step: [BTreeSet<u32>; 4],
}

/// What an update does to one instance.
#[derive(Clone, Debug)]
pub struct Change {
    /// What it was; `None`: it was not.
    pub from: Option<u32>,
    /// What it becomes; `None`: it is removed.
    pub to: Option<u32>,
    /// How far that is, in the direction of the moment.
    pub step: Step,
    /// It was taken in hand on the way forward.
    pub touched: bool,
    /// Of its tasks, in the direction of the moment.
    pub failures: u32,
    /// Whether it was over before: then it is again when it is put back.
    pub outcome: Outcome,
}

/// The times that decide how a task that ended is followed by another.
#[derive(Clone, Copy, Debug)]
pub struct Flapping {
    /// The first pause, milliseconds.
    pub initial_ms: u64,
    /// It doubles up to this.
    pub max_ms: u64,
    /// A task that ran for so long is no flapping one.
    pub stable_ms: u64,
}

/// Agents that an instance keeps in mind.
const AVOIDED: usize = 3;

impl Update {
    /// True until it has come to an end.
    pub fn is_active(&self) -> bool {
        use UpdateStage::{RollBackPaused, RollForwardPaused, RollingBack, RollingForward};
        matches!(
            self.stage,
            RollingForward | RollForwardPaused | RollingBack | RollBackPaused
        )
    }

    /// The instances at this step.
    pub fn at(&self, step: Step) -> &BTreeSet<u32> {
        &self.by_step[step as usize]
    }

    fn sort(&mut self) {
        self.by_step = Default::default();
        for (number, change) in &self.changes {
            self.by_step[change.step as usize].insert(*number);
        }
    }

    /// True when instances go back to what they were.
    pub fn is_back(&self) -> bool {
        matches!(
            self.stage,
            UpdateStage::RollingBack | UpdateStage::RollBackPaused
        )
    }
}

impl Task {
    /// True while the master knows where it is.
    pub fn is_reachable(&self) -> bool {
        !matches!(
            self.state,
            TaskState::TaskUnreachable | TaskState::TaskUnknown
        )
    }
}

impl JobState {
    /// What instances get that are added.
    pub fn current(&self) -> Option<&Arc<Version>> {
        self.versions.get(&self.current)
    }

    /// How many instances are wanted.
    pub fn wanted(&self) -> usize {
        let all = self.instances.values();
        all.filter(|one| one.wanted.is_some()).count()
    }
}

/// True of a state that a task never leaves.
pub fn is_over(state: TaskState) -> bool {
    is_terminal(state) && !matches!(state, TaskState::TaskUnreachable | TaskState::TaskUnknown)
}

impl State {
    /// The version that a task was launched with.
    pub fn version_of(&self, task: &Task) -> Option<&Arc<Version>> {
        self.jobs.get(&task.job)?.versions.get(&task.version)
    }

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
            Some(Kind::Unwant(unwant)) => {
                if let Some(job) = self.jobs.get_mut(unwant.job.as_str()) {
                    for number in &unwant.instances {
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
            Some(Kind::Doomed(doomed)) => {
                for serial in &doomed.serials {
                    if let Some(task) = self.tasks.get_mut(serial) {
                        task.doomed = true;
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
            Some(Kind::Instance(instance)) => self.instance(instance),
            Some(Kind::Serial(serial)) => self.serial = self.serial.max(serial.serial),
            None => self.unreadable = Some("a fact of a later version".to_owned()),
        }
    }

    fn add_version(&mut self, version: &wire::Version) {
        let config = match serde_json::from_str::<Job>(&version.config) {
            Ok(config) => config,
            Err(error) => {
                // Only a later dewar writes what this one cannot read; without it its tasks would be nobody's.
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
            // A snapshot tells versions before the instances that need them.
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
            doomed: false,
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
        // An agent that was away says nothing about the task's own health.
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

    /// Takes a task out, and out of its job's count.
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
        (task.superseded, task.doomed) = (true, true);
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
            // What was never touched has nothing to go back to.
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

    fn instance(&mut self, instance: &wire::Instance) {
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

    /// An instance that is not wanted goes with its task.
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

    /// Forgets configurations that nothing refers to any more.
    fn drop_versions(&mut self) {
        let is_active = self.update.as_ref().is_some_and(Update::is_active);
        if self.versions.len() == 1 || is_active {
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
    /// A task of it has ended: what follows.
    fn after(
        &mut self,
        task: &Task,
        version: &Version,
        state: TaskState,
        at: u64,
        flapping: &Flapping,
    ) {
        let config = &version.config;
        // Of a replaced version nothing counts: the next one has not been tried.
        if self.wanted != Some(task.version) {
            self.not_before = at;
            return;
        }
        if !config.service && state == TaskState::TaskFinished {
            self.outcome = Outcome::Finished;
            return;
        }
        if task.doomed {
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
        // What was lost is nobody's fault: it goes on at once, but an agent that loses everything
        // must not be asked again and again.
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

/// The attributes that a job limits, in the order of its constraints.
pub fn limits(job: &Job) -> impl Iterator<Item = (&str, u32)> {
    let all = job.constraints.iter();
    all.filter_map(|placement| match placement.rule {
        Rule::Limit(most) => Some((placement.attribute.as_str(), most)),
        Rule::In(_) | Rule::NotIn(_) => None,
    })
}
