//! What people and programs are shown of jobs, agents and quotas.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    amounts::{Amounts, UNLIMITED, thousandths},
    core::SchedulerCore,
    quotas::job_amounts,
    state::{Change, Ended, Instance, JobState, Outcome, Step, Task, Update, UpdateStage, Version},
    task_ids::{id_of, task_id},
    view_states::{EndState, InstanceState, UpdateState},
    waiting::needs_place,
};
use crate::mesos::protocol::messages::TaskState;

/// An instance that has waited for less is not explained yet, unless waiting cannot help.
/// Milliseconds.
const PATIENCE_MS: u64 = 5_000;

/// Quantities as numbers; an absent number means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantities {
    /// Cores, fractions included.
    pub cpus: Option<f64>,
    /// Memory in MiB.
    pub mem: Option<f64>,
    /// Disk space in MiB.
    pub disk: Option<f64>,
    /// The number of devices.
    pub gpus: Option<f64>,
}

impl From<Amounts> for Quantities {
    fn from(amounts: Amounts) -> Quantities {
        let number = |amount: u64| (amount < UNLIMITED).then(|| amount as f64 / 1000.0);
        let [cpus, mem, disk, gpus] = amounts.each().map(number);
        Quantities {
            cpus,
            mem,
            disk,
            gpus,
        }
    }
}

impl std::fmt::Display for Quantities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let amount = |number: Option<f64>| number.map_or(UNLIMITED, thousandths);
        let each = [self.cpus, self.mem, self.disk, self.gpus].map(amount);
        Amounts::of(each).fmt(f)
    }
}

/// A job with its instances and its last update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// The key, `ROLE/ENVIRONMENT/NAME`.
    pub key: String,
    /// True for a service, which runs for ever.
    pub service: bool,
    /// True while the scheduler is subscribed; otherwise the view is from before.
    pub connected: bool,
    /// The version of instances that are added.
    pub current: u32,
    /// The numbers of instances by state.
    pub totals: Totals,
    /// The instances, in the order of their numbers.
    pub instances: Vec<InstanceView>,
    /// The last update.
    pub update: Option<UpdateView>,
    /// Why an instance waits, if waiting alone will not help.
    pub why: Option<String>,
    /// How the last failed task ended, of instances that have not recovered since.
    pub trouble: Option<String>,
}

/// How many instances there are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Instances that are to exist.
    pub wanted: u32,
    /// Instances that run and are not unhealthy.
    pub running: u32,
    /// Instances that are starting, or are unhealthy.
    pub starting: u32,
    /// Instances that wait for a place.
    pub pending: u32,
    /// Instances that wait after short runs.
    pub backing_off: u32,
    /// Instances that are being killed.
    pub killing: u32,
    /// Instances whose agents are unreachable.
    pub unreachable: u32,
    /// Instances that have ended, with success.
    pub finished: u32,
    /// Instances that have failed for good.
    pub failed: u32,
}

/// One instance. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceView {
    /// The instance's number.
    pub instance: u32,
    /// PENDING, BACKING_OFF, STAGING, STARTING, RUNNING, UNHEALTHY, KILLING, UNREACHABLE, FINISHED
    /// or FAILED.
    pub state: InstanceState,
    /// Since when it is in this state, or waits.
    pub since: u64,
    /// The version that it is to run; absent when it is to be removed.
    pub version: Option<u32>,
    /// The id of its task.
    pub task_id: Option<String>,
    /// The host of its task.
    pub host: Option<String>,
    /// The ports of its task, by name.
    pub ports: BTreeMap<String, u16>,
    /// The number of failures, in a job that counts them.
    pub failures: u32,
    /// The number of short runs in a row.
    pub short_runs: u32,
    /// Why it waits for a place.
    pub why: Option<String>,
    /// When it is launched again.
    pub until: Option<u64>,
    /// How its last task ended.
    pub last: Option<Latest>,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latest {
    /// The task's id: `dewar tail` on the agent's machine shows its output.
    pub task_id: String,
    /// The task's last state: FINISHED, FAILED, KILLED, LOST and so on.
    pub state: EndState,
    /// What the update said about the end.
    pub message: String,
    /// The name of Mesos' reason.
    pub reason: String,
    /// The host that it ran on.
    pub host: String,
    /// When it ended; milliseconds since 1970.
    pub at: u64,
}

/// A rolling update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateView {
    /// ROLLING_FORWARD, ROLL_FORWARD_PAUSED, ROLLING_BACK, ROLL_BACK_PAUSED, ROLLED_FORWARD,
    /// ROLLED_BACK, ABORTED or FAILED.
    pub state: UpdateState,
    /// Why it failed, was rolled back or was aborted.
    pub reason: String,
    /// True when it only restarts.
    pub is_restart: bool,
    /// True until it has come to an end.
    pub is_active: bool,
    /// The number of instances that change.
    pub total: u32,
    /// Instances whose change is done, in the present direction.
    pub done: u32,
    /// Instances that are being changed.
    pub working: u32,
    /// Instances whose change has failed.
    pub failed: u32,
}

/// An agent that has offered something, or runs tasks of this scheduler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentView {
    /// The agent's id.
    pub id: String,
    /// The agent's host.
    pub host: String,
    /// True when its host is drained.
    pub drained: bool,
    /// True when the master has given it up.
    pub lost: bool,
    /// The values of its attributes.
    pub attributes: BTreeMap<String, Vec<String>>,
    /// How many tasks of this scheduler it runs.
    pub tasks: usize,
    /// The most of each resource that it ever had for this scheduler.
    pub most: Quantities,
    /// What this scheduler's tasks use.
    pub used: Quantities,
}

/// A role's quota, and what its jobs use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuotaView {
    /// The role's name.
    pub role: String,
    /// The quota; absent when there is no limit.
    pub quota: Option<Quantities>,
    /// What the role's jobs use.
    pub used: Quantities,
}

impl SchedulerCore {
    /// The job with this key.
    pub fn job(&self, key: &str) -> Option<JobView> {
        let mut view = self.brief(key)?;
        let job = self.state.jobs.get(key)?;
        let mut reasons: BTreeMap<u32, String> = BTreeMap::new();
        let instances = job.instances.iter();
        view.instances = instances
            .map(|(number, instance)| self.instance(key, *number, instance, job, &mut reasons))
            .collect();
        Some(view)
    }

    /// The job without its instances, of which there may be many.
    pub fn brief(&self, key: &str) -> Option<JobView> {
        let job = self.state.jobs.get(key)?;
        let mut totals = Totals::default();
        let mut trouble: Option<(u32, &Ended)> = None;
        for (number, instance) in &job.instances {
            let state = self.state_of(instance);
            totals.count(instance.wanted.is_some(), state);
            let is_bad = |last: &&Ended| {
                let ended = matches!(
                    last.state(),
                    TaskState::TaskFinished | TaskState::TaskKilled
                );
                !ended
            };
            // An instance with a new task is judged by that one.
            if let Some(last) = instance.last.as_ref().filter(is_bad)
                && instance.task.is_none()
                && trouble.is_none_or(|(_, other)| other.at < last.at)
            {
                trouble = Some((*number, last));
            }
        }
        Some(JobView {
            key: key.to_owned(),
            service: job.current().is_some_and(|version| version.config.service),
            connected: self.is_connected(),
            current: job.current,
            totals,
            why: self.first_obstacle(job),
            trouble: trouble.map(|(number, last)| {
                let message = last.message.lines().next().unwrap_or_default();
                let state = EndState(last.state());
                format!("instance {number} {state} on {}: {message}", last.hostname)
            }),
            instances: Vec::new(),
            update: job.update.as_ref().map(Update::view),
        })
    }

    /// All jobs, without their instances.
    pub fn jobs(&self) -> Vec<JobView> {
        let keys = self.state.jobs.keys();
        keys.filter_map(|key| self.brief(key)).collect()
    }

    /// All agents that the scheduler knows.
    pub fn agents(&self) -> Vec<AgentView> {
        let agents = self.agents.iter();
        agents
            .map(|(id, agent)| AgentView {
                id: id.to_string(),
                host: agent.hostname.to_string(),
                drained: self.state.drained.contains(&*agent.hostname),
                tasks: agent.jobs.values().sum(),
                lost: agent.is_lost,
                attributes: agent.attributes.clone(),
                most: agent.most.into(),
                used: agent.used.into(),
            })
            .collect()
    }

    /// The quotas of all roles that have jobs or a quota.
    pub fn quotas(&self) -> Vec<QuotaView> {
        let mut used: BTreeMap<&str, Amounts> = self
            .state
            .quotas
            .keys()
            .map(|role| (role.as_str(), Amounts::default()))
            .collect();
        for job in self.state.jobs.values() {
            if let Some(version) = job.current() {
                *used.entry(&version.config.role).or_default() += job_amounts(job);
            }
        }
        let used = used.into_iter();
        used.map(|(role, used)| QuotaView {
            role: role.to_owned(),
            quota: self.state.quotas.get(role).copied().map(Quantities::from),
            used: used.into(),
        })
        .collect()
    }

    fn instance(
        &self,
        key: &str,
        number: u32,
        instance: &Instance,
        job: &JobState,
        reasons: &mut BTreeMap<u32, String>,
    ) -> InstanceView {
        let task = instance
            .task
            .and_then(|serial| Some((serial, self.state.tasks.get(&serial)?)));
        let mut view = InstanceView {
            instance: number,
            state: self.state_of(instance),
            since: instance.since,
            version: instance.wanted,
            task_id: task.map(|(serial, task)| task_id(serial, task)),
            host: task.map(|(_, task)| task.hostname.to_string()),
            ports: BTreeMap::new(),
            failures: instance.failures,
            short_runs: instance.streak,
            why: None,
            until: None,
            last: instance.last.as_ref().map(|last| Latest {
                task_id: id_of(key, number, last.serial),
                state: EndState(last.state()),
                message: last.message.clone(),
                reason: last.reason.clone(),
                host: last.hostname.clone(),
                at: last.at,
            }),
        };
        if let Some((_, task)) = task {
            view.since = task.since;
            let version = job.versions.get(&task.version);
            let names = version.into_iter().flat_map(|one| &one.config.ports);
            view.ports = names.cloned().zip(task.ports.iter().copied()).collect();
            return view;
        }
        let waits = needs_place(instance);
        if let Some(version) = waits {
            match instance.not_before > self.now {
                true => view.until = Some(instance.not_before),
                false => view.why = Some(self.pending_reason_of(version, job, reasons)),
            }
        }
        view
    }

    fn state_of(&self, instance: &Instance) -> InstanceState {
        let task = instance.task;
        if let Some(task) = task.and_then(|serial| self.state.tasks.get(&serial)) {
            return state_of(task);
        }
        match instance.outcome {
            Outcome::Finished => InstanceState::Finished,
            Outcome::Failed => InstanceState::Failed,
            Outcome::Open if instance.not_before > self.now => InstanceState::BackingOff,
            Outcome::Open => InstanceState::Pending,
        }
    }

    /// Why the first waiting instance waits: at once when waiting alone will not help, otherwise
    /// after a while.
    fn first_obstacle(&self, job: &JobState) -> Option<String> {
        let waiting = |one: &&Instance| one.not_before <= self.now && needs_place(one).is_some();
        let first = job.instances.values().find(waiting)?;
        let version = job.versions.get(&needs_place(first)?)?;
        let waited = self.now.saturating_sub(first.since.max(first.not_before));
        match waited > PATIENCE_MS {
            true => Some(self.pending_reason(version)),
            false => self.obstacle(version),
        }
    }

    /// The reason, which is the same for all instances of a version and is worked out once.
    fn pending_reason_of(
        &self,
        version: u32,
        job: &JobState,
        reasons: &mut BTreeMap<u32, String>,
    ) -> String {
        let known = reasons.entry(version).or_insert_with(|| {
            let config: Option<&Version> = job.versions.get(&version).map(|one| &**one);
            config.map_or_else(String::new, |config| self.pending_reason(config))
        });
        known.clone()
    }
}

impl Totals {
    /// Adds the totals of another job.
    pub fn add(&mut self, other: &Totals) {
        self.wanted += other.wanted;
        self.running += other.running;
        self.starting += other.starting;
        self.pending += other.pending;
        self.backing_off += other.backing_off;
        self.killing += other.killing;
        self.unreachable += other.unreachable;
        self.finished += other.finished;
        self.failed += other.failed;
    }

    /// Every state that instances are counted by, and how many are in it.
    pub fn by_state(&self) -> [(&'static str, u32); 8] {
        [
            ("running", self.running),
            ("starting", self.starting),
            ("pending", self.pending),
            ("backing off", self.backing_off),
            ("killing", self.killing),
            ("unreachable", self.unreachable),
            ("finished", self.finished),
            ("failed", self.failed),
        ]
    }

    fn count(&mut self, is_wanted: bool, state: InstanceState) {
        self.wanted += u32::from(is_wanted);
        let counter = match state {
            InstanceState::Unhealthy => &mut self.starting,
            InstanceState::Killing => &mut self.killing,
            InstanceState::Unreachable => &mut self.unreachable,
            InstanceState::Finished => &mut self.finished,
            InstanceState::Failed => &mut self.failed,
            InstanceState::BackingOff => &mut self.backing_off,
            InstanceState::Pending => &mut self.pending,
            InstanceState::Task(EndState(state)) => match state {
                TaskState::TaskRunning => &mut self.running,
                TaskState::TaskStaging | TaskState::TaskStarting => &mut self.starting,
                TaskState::TaskKilling => &mut self.killing,
                TaskState::TaskUnreachable => &mut self.unreachable,
                TaskState::TaskFinished => &mut self.finished,
                TaskState::TaskFailed => &mut self.failed,
                _ => &mut self.pending,
            },
        };
        *counter += 1;
    }
}

impl Update {
    fn view(&self) -> UpdateView {
        // An instance that was not changed does not go back.
        let goes_back = self.is_back() || self.stage == UpdateStage::RolledBack;
        let concerned = |change: &&Change| change.touched || !goes_back;
        let count = |step: Step| {
            let changes = self.changes.values().filter(concerned);
            changes.filter(|change| change.step == step).count() as u32
        };
        UpdateView {
            state: UpdateState(self.stage),
            reason: self.reason.clone(),
            is_restart: self.is_restart,
            is_active: self.is_active(),
            total: self.changes.values().filter(concerned).count() as u32,
            done: count(Step::Done),
            working: count(Step::Working),
            failed: count(Step::Failed),
        }
    }
}

fn state_of(task: &Task) -> InstanceState {
    if !task.is_reachable() {
        return InstanceState::Unreachable;
    }
    if task.kill_requested {
        return InstanceState::Killing;
    }
    match task.state {
        TaskState::TaskRunning if task.healthy == Some(false) => InstanceState::Unhealthy,
        state => InstanceState::Task(EndState(state)),
    }
}

impl Ended {
    fn state(&self) -> TaskState {
        TaskState::try_from(self.state).unwrap_or(TaskState::TaskUnknown)
    }
}
