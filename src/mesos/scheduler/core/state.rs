//! What lasts: jobs, instances, live tasks, updates, quotas. Only facts change it (`apply.rs`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::amounts::Amounts;
use crate::{
    mesos::protocol::{is_terminal, messages::TaskState},
    protocols::dewar::scheduler as wire,
    task::{Job, Rule},
};

pub use wire::{Ended, Fact, Step, UpdateStage, fact::Kind};

/// A job's key, `ROLE/ENVIRONMENT/NAME`.
pub type Key = Arc<str>;

/// All that lasts.
#[derive(Debug, Default)]
pub struct State {
    /// The framework id that the master gave.
    pub framework: Option<String>,
    /// The serial of the task that was launched last.
    pub serial: u64,
    /// Every job that is not forgotten.
    pub jobs: BTreeMap<Key, JobState>,
    /// Every task that may still be running, by its serial.
    pub tasks: BTreeMap<u64, Task>,
    /// The quotas, by role.
    pub quotas: BTreeMap<String, Amounts>,
    /// The drained hosts.
    pub drained: BTreeSet<String>,
    /// Why a fact could not be understood. Nothing may be decided on such a state.
    pub unreadable: Option<String>,
}

/// One configuration of a job.
#[derive(Debug)]
pub struct Version {
    /// The job's configuration, with everything resolved.
    pub config: Job,
    /// What one instance uses, without its executor.
    pub amounts: Amounts,
}

/// A job and its instances.
#[derive(Debug)]
pub struct JobState {
    /// The versions that are still needed.
    pub versions: BTreeMap<u32, Arc<Version>>,
    /// The version of instances that are added.
    pub current: u32,
    /// The instances, by their numbers.
    pub instances: BTreeMap<u32, Instance>,
    /// How many tasks of each version may still be running.
    pub live: BTreeMap<u32, usize>,
    /// The last update.
    pub update: Option<Update>,
}

/// One of a job's instances.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// The version that it is to run; `None`: it is removed when its task has ended.
    pub wanted: Option<u32>,
    /// The serial of the task that runs, or may run, for it.
    pub task: Option<u64>,
    /// The number of failures, in a job that counts them.
    pub failures: u32,
    /// The number of short runs in a row.
    pub streak: u32,
    /// It is not launched before this time; milliseconds since 1970.
    pub not_before: u64,
    /// Since when it waits for a place; milliseconds since 1970.
    pub since: u64,
    /// Whether it is over.
    pub outcome: Outcome,
    /// The ids of agents that it failed on lately.
    pub avoid: Vec<String>,
    /// How its last task ended.
    pub last: Option<Ended>,
}

/// Whether an instance is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It is not over.
    #[default]
    Open,
    /// It has ended, with success.
    Finished,
    /// It has failed too often.
    Failed,
}

impl Outcome {
    /// The outcome with this number in facts.
    pub fn of(number: u32) -> Outcome {
        match number {
            1 => Outcome::Finished,
            2 => Outcome::Failed,
            _ => Outcome::Open,
        }
    }

    /// The number of the outcome in facts.
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
    /// The key of its job.
    pub job: Key,
    /// The number of its instance.
    pub instance: u32,
    /// The version that it was launched with.
    pub version: u32,
    /// The id of its agent.
    pub agent: Arc<str>,
    /// Its agent's host.
    pub hostname: Arc<str>,
    /// Its ports, in the order of the names in its version.
    pub ports: Box<[u16]>,
    /// Its agent's values of the attributes that its job limits.
    pub limited: Box<[String]>,
    /// The last known state.
    pub state: TaskState,
    /// The last known result of its health check.
    pub healthy: Option<bool>,
    /// It is to be killed.
    pub kill_requested: bool,
    /// Its instance went on without it.
    pub superseded: bool,
    /// No state of it came yet.
    pub silent: bool,
    /// When it was launched. This time and the next two are milliseconds since 1970.
    pub launched_at: u64,
    /// Since when it has been in its state.
    pub since: u64,
    /// Since when it has been running and not unhealthy.
    pub working_since: Option<u64>,
}

/// A rolling update.
#[derive(Clone, Debug)]
pub struct Update {
    /// The version that it leads to.
    pub version: u32,
    /// How far it is.
    pub stage: UpdateStage,
    /// Why it failed, was rolled back or was aborted.
    pub reason: String,
    /// It leads to the same configuration again.
    pub is_restart: bool,
    /// It is of all instances: its version becomes the job's.
    pub is_whole: bool,
    /// The instances that change, by number.
    pub changes: BTreeMap<u32, Change>,
    /// The same numbers, by their steps.
    pub(super) by_step: [BTreeSet<u32>; 4],
}

/// What an update does to one instance.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version before; `None` for an instance that is added.
    pub from: Option<u32>,
    /// The version after; `None` for an instance that is removed.
    pub to: Option<u32>,
    /// How far the change is, in the present direction.
    pub step: Step,
    /// The change has begun on the way forward.
    pub touched: bool,
    /// Failures of the instance's tasks, in the present direction.
    pub failures: u32,
    /// The instance's outcome before the update; a rollback restores it.
    pub outcome: Outcome,
}

/// The times that decide when a task that ended is followed by another.
#[derive(Clone, Copy, Debug)]
pub struct Flapping {
    /// The first pause, in milliseconds.
    pub initial_ms: u64,
    /// The longest pause, in milliseconds; the pause doubles up to this.
    pub max_ms: u64,
    /// After a run of this length, in milliseconds, the pause starts anew.
    pub stable_ms: u64,
}

impl Update {
    /// True until the update has come to an end.
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

    /// Sorts the numbers by the steps of their changes.
    pub(super) fn sort(&mut self) {
        self.by_step = Default::default();
        for (number, change) in &self.changes {
            self.by_step[change.step as usize].insert(*number);
        }
    }

    /// The version that an instance gets in the present direction; `None`: it is removed.
    pub fn target(&self, change: &Change) -> Option<u32> {
        match self.is_back() {
            true => change.from,
            false => change.to,
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
    /// The version of instances that are added.
    pub fn current(&self) -> Option<&Arc<Version>> {
        self.versions.get(&self.current)
    }

    /// The update, if it has not come to an end.
    pub fn active_update(&self) -> Option<&Update> {
        self.update.as_ref().filter(|update| update.is_active())
    }

    /// What an instance of this version uses, without its executor; nothing without a version.
    pub fn amounts_of(&self, version: Option<u32>) -> Amounts {
        let version = version.and_then(|version| self.versions.get(&version));
        version.map_or_else(Amounts::default, |version| version.amounts)
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
    /// One instance of the job with this key.
    pub fn instance(&self, key: &str, number: u32) -> Option<&Instance> {
        self.jobs.get(key)?.instances.get(&number)
    }

    /// The version that a task was launched with.
    pub fn version_of(&self, task: &Task) -> Option<&Arc<Version>> {
        self.jobs.get(&task.job)?.versions.get(&task.version)
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
