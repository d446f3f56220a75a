//! The task as everything else sees it: resolved, validated, every default filled in.
//!
//! This is also what the journal's header holds, as JSON. Fields are only ever added, with a
//! default that means what their absence meant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    signals::StopSignal,
    units::{Bytes, Period},
};

pub(crate) const MAX_RUNS: u32 = 100;
pub(crate) const MIN_DURATION: Period = Period::from_secs(5);
pub(crate) const FINALIZATION_WAIT: Period = Period::from_secs(30);

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
    /// Who runs the processes; the default is who runs dewar.
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

/// Ending a task over HTTP: POST at 127.0.0.1, twice, each with its time to work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Of 127.0.0.1.
    pub port: u16,
    /// Asked first.
    pub graceful_shutdown_endpoint: String,
    /// Asked when the first has not helped.
    pub shutdown_endpoint: String,
    /// What the first is given.
    pub graceful_shutdown_wait: Period,
    /// What the second is given.
    pub shutdown_wait: Period,
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
    /// How long its tree has after the stop signal; at most the task's budget, which is the default.
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

/// How the pause between runs grows: `min_duration` times `factor` to the power of the runs in a row
/// that were neither successful nor long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    /// At least 1.
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
    /// It failed for good. If it ends well, whoever waits for this is not needed and is skipped.
    Failed,
}

/// How to tell whether something works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// What is tried.
    #[serde(flatten)]
    pub probe: Probe,
    /// Before the first attempt.
    pub delay: Period,
    /// Attempts within this time are a grace: their failures are ignored.
    pub initial_interval: Period,
    /// Between the end of an attempt and the next.
    pub interval: Period,
    /// What an attempt may take.
    pub timeout: Period,
    /// One failure in a row more than these is the end.
    pub max_consecutive_failures: u32,
    /// Successes in a row that make it healthy.
    pub min_consecutive_successes: u32,
    /// Being healthy once ends the grace: Mesos' rule, not Aurora's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grace_ends_early: bool,
}

/// One way to try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// GET at 127.0.0.1.
    Http(HttpProbe),
    /// A connection to this port of 127.0.0.1.
    Tcp(TcpProbe),
    /// A script for bash, in the sandbox; 0 is healthy.
    Shell(String),
}

/// What is asked, and which answer is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// Of 127.0.0.1.
    pub port: u16,
    /// With its query.
    pub path: String,
    /// The right status; 0: any from 200 to 399.
    pub status: u16,
    /// The right body, without case and outer spaces; empty: any.
    pub body: String,
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcpProbe {
    /// Of 127.0.0.1.
    pub port: u16,
}

/// Processes that run strictly one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constraint {
    /// Names of processes.
    pub order: Vec<String>,
}

/// What a process may use: enforced by the kernel, or refused. For a task: a reservation, unless
/// [`Task::enforce`] is set. 0 is no limit in the first four, as Thermos had them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Cores, as a share of time: 0.5 is half a core's.
    pub cpu: f64,
    /// Memory; a process that needs more is killed.
    pub ram: Bytes,
    /// Space in the sandbox; of a task only.
    pub disk: Bytes,
    /// Devices; never enforced here.
    pub gpu: u32,
    /// The share of the CPU when there is not enough for everybody, 1 to 10 000; 100 is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u32>,
    /// Memory from which on the process is slowed down and its pages are reclaimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_high: Option<Bytes>,
    /// Swap space; 0 is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Bytes>,
    /// Processes and threads at a time; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// The share of the disks' time when there is not enough for everybody, 1 to 10 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u32>,
    /// Limits of the kernel's own kind, per process of the system.
    #[serde(default, skip_serializing_if = "Rlimits::is_empty")]
    pub rlimits: Rlimits,
    /// -20 (first) to 19 (last).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// -1000 (never) to 1000 (first) to be killed when the machine is out of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// What this machine cannot enforce is reported, not refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub best_effort: bool,
}

/// Limits by name, see setrlimit(2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rlimits(pub BTreeMap<String, Rlimit>);

/// One limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// What holds.
    #[serde(with = "bound")]
    pub soft: Option<u64>,
    /// How far the process may raise it itself.
    #[serde(with = "bound")]
    pub hard: Option<u64>,
}

impl Rlimits {
    /// Those that Linux has, in the order of their numbers.
    pub const NAMES: [&'static str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];

    /// True when none is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How far a task is kept from its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// How far.
    pub level: Level,
    /// What a private task does without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Protection>,
}

impl Isolation {
    /// True when nothing was asked for.
    pub fn is_default(&self) -> bool {
        *self == Isolation::default()
    }

    /// True when the task is to have this protection.
    pub fn has(&self, protection: Protection) -> bool {
        self.level == Level::Private && !self.without.contains(&protection)
    }
}

/// Levels of isolation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A directory of its own, as Thermos had it.
    #[default]
    Directory,
    /// Namespaces, a file system of its own, and fewer rights.
    Private,
}

/// What makes a private task private; each can be done without, for a program that cannot live with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// A file system of its own: the machine's programs to read, the sandbox to write.
    Mounts,
    /// It sees no process but its own.
    Pids,
    /// Its own System V IPC and message queues.
    Ipc,
    /// Its own host name.
    Uts,
    /// The rights of root that no service needs are taken away.
    Capabilities,
    /// No program gives it more rights than it has.
    NoNewPrivs,
    /// System calls that no service needs are refused.
    Seccomp,
    /// A second line, by paths.
    Landlock,
}

impl Protection {
    /// All of them.
    pub const ALL: [Protection; 8] = [
        Protection::Mounts,
        Protection::Pids,
        Protection::Ipc,
        Protection::Uts,
        Protection::Capabilities,
        Protection::NoNewPrivs,
        Protection::Seccomp,
        Protection::Landlock,
    ];

    /// As task files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Protection::Mounts => "mounts",
            Protection::Pids => "pids",
            Protection::Ipc => "ipc",
            Protection::Uts => "uts",
            Protection::Capabilities => "capabilities",
            Protection::NoNewPrivs => "no_new_privs",
            Protection::Seccomp => "seccomp",
            Protection::Landlock => "landlock",
        }
    }
}

/// A place in the file system of a private task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "VolumeText", into = "VolumeText")]
pub struct Volume {
    /// Where the task finds it.
    pub container_path: String,
    /// What is there.
    pub kind: VolumeKind,
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeKind {
    /// A directory or file of the machine.
    Host {
        /// Its path on the machine.
        host_path: String,
        /// The task may write it.
        writable: bool,
    },
    /// Files in memory, gone with the task.
    Tmpfs {
        /// At most so much.
        size: Bytes,
    },
}

/// A volume as task files have it, so that what `inspect` prints can be run.
#[derive(Serialize, Deserialize)]
struct VolumeText {
    container_path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tmpfs: Option<Bytes>,
}

impl From<VolumeText> for Volume {
    fn from(text: VolumeText) -> Volume {
        let kind = match text.host_path {
            Some(host_path) => VolumeKind::Host {
                host_path,
                writable: text.mode.as_deref() == Some("RW"),
            },
            None => VolumeKind::Tmpfs {
                size: text.tmpfs.unwrap_or_default(),
            },
        };
        Volume {
            container_path: text.container_path,
            kind,
        }
    }
}

impl From<Volume> for VolumeText {
    fn from(volume: Volume) -> VolumeText {
        let mut text = VolumeText {
            container_path: volume.container_path,
            host_path: None,
            mode: None,
            tmpfs: None,
        };
        match volume.kind {
            VolumeKind::Host {
                host_path,
                writable,
            } => {
                text.host_path = Some(host_path);
                text.mode = Some(if writable { "RW" } else { "RO" }.to_owned());
            }
            VolumeKind::Tmpfs { size } => text.tmpfs = Some(size),
        }
        text
    }
}

impl VolumeKind {
    /// The path on the machine, if it has one.
    pub fn host_path(&self) -> Option<&String> {
        match self {
            VolumeKind::Host { host_path, .. } => Some(host_path),
            VolumeKind::Tmpfs { .. } => None,
        }
    }
}

/// Where output goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Logger {
    /// Which readers.
    pub destination: Destination,
    /// How the files grow.
    pub mode: LogMode,
    /// The sizes that `mode: rotate` uses.
    #[serde(default)]
    pub rotate: Rotate,
}

/// Who gets the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// Files only.
    #[default]
    File,
    /// Shown by whoever follows the task; locally there are files too.
    Console,
    /// Files, and shown.
    Both,
    /// Nobody.
    None,
}

/// How log files grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogMode {
    /// Without bounds; the process writes them itself.
    #[default]
    Standard,
    /// Up to `rotate.log_size`, then anew, keeping `rotate.backups` old ones.
    Rotate,
}

/// The sizes of rotated logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rotate {
    /// A file that has reached this size becomes a backup.
    pub log_size: Bytes,
    /// Old files kept.
    pub backups: u32,
}

/// A limit as task files have it: a number, or `unlimited`.
mod bound {
    use serde::{Deserialize, Deserializer, Serializer};
    use serde_json::Value;

    pub fn serialize<S: Serializer>(bound: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        match bound {
            Some(bound) => to.serialize_u64(*bound),
            None => to.serialize_str("unlimited"),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        Ok(Value::deserialize(from)?.as_u64())
    }
}

/// Masks are octal for everybody, also in what `inspect` prints.
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
            isolation: Isolation::default(),
            volumes: Vec::new(),
            max_failures: 1,
            max_concurrency: 0,
            finalization_wait: FINALIZATION_WAIT,
            user: None,
            health: None,
            check: None,
            lifecycle: None,
        }
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
            max_runs: MAX_RUNS,
            daemon: false,
            ephemeral: false,
            is_final: false,
            min_duration: MIN_DURATION,
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

impl Default for Rotate {
    fn default() -> Rotate {
        Rotate {
            log_size: Bytes(100 << 20),
            backups: 5,
        }
    }
}

impl Destination {
    /// Followers show it.
    pub fn is_shown(self) -> bool {
        matches!(self, Destination::Console | Destination::Both)
    }
}
