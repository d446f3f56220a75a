//! What a run has used, as people and programs read it.

use serde::{Deserialize, Serialize};

use crate::{journal, resources::Usage, task::shown_bytes};

/// What a run uses or used; null is not known. Without a cgroup it is the sum of what its living
/// processes say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageStatus {
    /// Time on the processor.
    pub cpu_seconds: Option<f64>,
    /// Time that it had to wait because of its `cpu`.
    pub throttled_seconds: Option<f64>,
    /// Bytes now.
    pub memory: Option<u64>,
    /// Bytes at most.
    pub memory_peak: Option<u64>,
    /// Bytes that it may use.
    pub memory_limit: Option<u64>,
    /// Processes that were killed because memory was out.
    pub oom_kills: Option<u64>,
    /// Processes and threads now.
    pub pids: Option<u64>,
    /// Processes and threads at most.
    pub pids_peak: Option<u64>,
    /// Forks that were refused.
    pub pids_refused: Option<u64>,
}

impl From<&journal::Usage> for UsageStatus {
    fn from(usage: &journal::Usage) -> UsageStatus {
        UsageStatus {
            cpu_seconds: seconds(usage.cpu_us),
            throttled_seconds: seconds(usage.throttled_us),
            memory: None,
            memory_peak: usage.memory_peak,
            memory_limit: usage.memory_limit,
            oom_kills: usage.oom_kills,
            pids: None,
            pids_peak: usage.pids_peak,
            pids_refused: usage.pids_refused,
        }
    }
}

impl From<Usage> for UsageStatus {
    fn from(usage: Usage) -> UsageStatus {
        UsageStatus {
            cpu_seconds: seconds(usage.cpu_us),
            throttled_seconds: seconds(usage.throttled_us),
            memory: usage.memory,
            memory_peak: usage.memory_peak,
            memory_limit: usage.memory_limit,
            oom_kills: usage.oom_kills,
            pids: usage.pids,
            pids_peak: usage.pids_peak,
            pids_refused: usage.pids_refused,
        }
    }
}

fn seconds(us: Option<u64>) -> Option<f64> {
    us.map(|us| us as f64 / 1e6)
}

/// Why a run that was killed for memory was: `out of memory: limit 64 MiB, peak 64 MiB`.
pub(crate) fn out_of_memory(usage: &journal::Usage) -> String {
    let limit = match usage.memory_limit {
        Some(limit) => format!("limit {}", shown_bytes(limit)),
        None => "the limit is the task's, its container's or the machine's".to_owned(),
    };
    match usage.memory_peak {
        Some(peak) => format!("out of memory: {limit}, peak {}", shown_bytes(peak)),
        None => format!("out of memory: {limit}"),
    }
}
