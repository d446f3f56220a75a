//! What lasts: jobs, instances, live tasks, updates, quotas. It changes by facts only (`apply.rs`).

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
    pub fn of(number: u32) -> Outcome {
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
    pub kill_requested: bool,
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
    pub(super) by_step: [BTreeSet<u32>; 4],
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

    /// Puts the numbers where their steps say.
    pub(super) fn sort(&mut self) {
        self.by_step = Default::default();
        for (number, change) in &self.changes {
            self.by_step[change.step as usize].insert(*number);
        }
    }

    /// What becomes of an instance in the direction of the moment; `None`: it goes.
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
    /// What instances get that are added.
    pub fn current(&self) -> Option<&Arc<Version>> {
        self.versions.get(&self.current)
    }

    /// The update that has not come to an end.
    pub fn active_update(&self) -> Option<&Update> {
        self.update.as_ref().filter(|update| update.is_active())
    }

    /// What an instance of this version uses, without its executor; of none, nothing.
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
