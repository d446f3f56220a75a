//! What a process may use: resources and the kernel's own limits, as types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::parse_units::Bytes;

/// What a process may use: enforced by the kernel, or refused. For a task: a reservation, unless
/// [`Task::enforce`](super::Task::enforce) is set. 0 is no limit in the first four, as Thermos had
/// them.
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
    /// The share of the CPU when processes want more than there is, 1 to 10 000; 100 is the
    /// default.
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
    /// The share of the disks' time when processes want more than there is, 1 to 10 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u32>,
    /// Limits of the kernel's own kind, per process of the system.
    #[serde(default, skip_serializing_if = "Rlimits::is_empty")]
    pub rlimits: Rlimits,
    /// The priority, from -20 (first) to 19 (last).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// -1000 (never) to 1000 (first) to be killed when the machine is out of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// What this machine cannot enforce is reported, not refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub best_effort: bool,
}

impl Resources {
    /// True when something of them limits, or shares, by a group of processes.
    pub fn need_a_group(&self) -> bool {
        self.cpu > 0.0
            || self.ram.0 > 0
            || self.cpu_weight.is_some()
            || self.ram_high.is_some()
            || self.swap.is_some()
            || self.pids.is_some()
            || self.io_weight.is_some()
    }
}

/// Limits by name, see setrlimit(2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rlimits(pub BTreeMap<String, Rlimit>);

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

/// One limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// The limit that holds.
    #[serde(with = "bound")]
    pub soft: Option<u64>,
    /// How far the process may raise it itself.
    #[serde(with = "bound")]
    pub hard: Option<u64>,
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
