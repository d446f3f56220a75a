//! The task as all other rooms see it: resolved, validated, every default filled in.
//!
//! This is also what the journal's header holds, as JSON. Fields are only ever added, with a
//! default that means what their absence meant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    health::{Health, Lifecycle},
    isolation::{Isolation, Volume},
    logger::Logger,
    parse_units::Period,
    resources::Resources,
    signals::StopSignal,
};

/// A DAG of processes in one sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The default is the first process' name.
    pub name: String,
    /// In the order of the file, which is the order of starting where several may start.
    pub processes: Vec<Process>,
    /// Orders between processes.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
    /// A reservation, unless `enforce` is set: the container's or the scheduler's to enforce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Hold the task as a whole to its `resources`; no task file has it (`--enforce-task`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enforce: bool,
    /// It is held to all that it says of limits and isolation: set when a task begins, by every
    /// version since features have numbers; no task file has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// How far it is kept from its machine.
    #[serde(default, skip_serializing_if = "Isolation::is_default")]
    pub isolation: Isolation,
    /// What a private task has of the machine beside its sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Failed processes that fail the task; 0: no limit.
    pub max_failures: u32,
    /// Processes running at a time; 0: no limit.
    pub max_concurrency: u32,
    /// Budget of CLEANING and FINALIZING together.
    pub finalization_wait: Period,
    /// How much of that is kept for final processes; by default nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_wait: Option<Period>,
    /// The user that runs the processes; by default the user that runs dewar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How to tell whether the task as a whole works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Something that is only asked and reported, for a scheduler; no task file has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Health>,
    /// How to ask it to end, before it is sent signals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
}

/// One process of a task. Exactly one of `cmdline` and `argv` is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Also the name of its log directory.
    pub name: String,
    /// A script for `shell`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// A program and its arguments, run without a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// Words in front of `-c CMDLINE`; the default is `/bin/bash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Failed runs after which the process is failed for good; 0: no limit.
    pub max_failures: u32,
    /// Runs without success after which the process is failed for good; 0: no limit.
    pub max_runs: u32,
    /// Rerun after success too.
    pub daemon: bool,
    /// Not waited for; its failures do not count.
    pub ephemeral: bool,
    /// Part of the finalizing plan.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Pause between the end of a run and the next start.
    pub min_duration: Period,
    /// How that pause grows while runs keep failing; it is constant by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// How long a run may take; one that takes longer is killed and has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// What asks it to stop; SIGTERM by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<StopSignal>,
    /// How long its tree has after the stop signal; at most the task's budget, which is the
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<Period>,
    /// Instead of the task's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File mode creation mask.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "octal")]
    pub umask: Option<u32>,
    /// Relative to the sandbox, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Added to the clean environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Files of variables, read before every run; `env` overrides them. What is not absolute is
    /// relative to the sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_file: Vec<String>,
    /// What must be true of other processes before this one starts, beside the orders.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub after: BTreeMap<String, Condition>,
    /// How to tell whether it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Where its output goes.
    pub logger: Logger,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// How the pause between runs grows: `min_duration` times `factor` to the power of the runs in a
/// row that were neither successful nor long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    /// By how much the pause grows from one run to the next; at least 1.
    pub factor: f64,
    /// It grows no further than this.
    pub max: Period,
    /// A random part of it, up to this share (0 to 1), is added.
    pub jitter: f64,
    /// After a run of this length it starts anew.
    pub reset_after: Period,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            factor: 2.0,
            max: Period::from_secs(300),
            jitter: 0.1,
            reset_after: Period::from_secs(600),
        }
    }
}

/// What must be true of another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// A run of it became its program.
    Started,
    /// A run of it was found healthy.
    Healthy,
    /// A run of it ended well.
    Succeeded,
    /// It is over, well or not.
    Completed,
    /// It failed for good. If it ends well, a process that waits for this is skipped.
    Failed,
}

/// Processes that run strictly one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constraint {
    /// Names of processes.
    pub order: Vec<String>,
}

/// Masks are octal in task files, in the journal and in what `inspect` prints.
mod octal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(mask: &Option<u32>, to: S) -> Result<S::Ok, S::Error> {
        match mask {
            Some(mask) => to.serialize_str(&format!("{mask:03o}")),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
        let text: Option<String> = Option::deserialize(from)?;
        let parse = |text: String| u32::from_str_radix(&text, 8).map_err(D::Error::custom);
        text.map(parse).transpose()
    }
}

impl Task {
    /// A task of `processes` with the defaults of a task file.
    pub fn of(name: String, processes: Vec<Process>) -> Task {
        Task {
            name,
            processes,
            constraints: Vec::new(),
            resources: None,
            enforce: false,
            held: false,
            isolation: Isolation::default(),
            volumes: Vec::new(),
            max_failures: 1,
            max_concurrency: 0,
            finalization_wait: Period::from_secs(30),
            final_wait: None,
            user: None,
            health: None,
            check: None,
            lifecycle: None,
        }
    }

    /// The task in the words of a task file: without what only a journal says of it, which is how
    /// the graces of its health checks are counted.
    pub fn as_written(&self) -> Task {
        let mut task = self.clone();
        let processes = task.processes.iter_mut();
        let checks = processes.filter_map(|process| process.health.as_mut());
        for health in checks.chain(&mut task.health) {
            health.grace_is_time = false;
        }
        task
    }
}

impl Process {
    /// A process with the defaults of a task file, and nothing to run yet.
    pub fn named(name: String) -> Process {
        Process {
            name,
            cmdline: None,
            argv: None,
            shell: None,
            max_failures: 1,
            max_runs: 100,
            daemon: false,
            ephemeral: false,
            is_final: false,
            min_duration: Period::from_secs(5),
            backoff: None,
            timeout: None,
            stop_signal: None,
            stop_timeout: None,
            user: None,
            umask: None,
            working_dir: None,
            env: BTreeMap::new(),
            env_file: Vec::new(),
            after: BTreeMap::new(),
            health: None,
            logger: Logger::default(),
            resources: None,
        }
    }
}
