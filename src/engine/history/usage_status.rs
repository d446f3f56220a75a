//! The usage of a run, as people and programs read it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{journal, task::shown_bytes};

/// The usage of the machine by one run; null means that it is not known. Without a cgroup it is the
/// sum over the run's living processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsageStatus {
    /// Time on the processor, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Time that it had to wait because of its limit `cpu`, in seconds.
    pub throttled_seconds: Option<f64>,
    /// Bytes of memory at this moment; null once the run is over.
    pub memory: Option<u64>,
    /// Bytes of memory at the peak.
    pub memory_peak: Option<u64>,
    /// Bytes of memory that it may use.
    pub memory_limit: Option<u64>,
    /// Processes that the kernel killed because memory ran out.
    pub oom_kills: Option<u64>,
    /// Processes and threads at this moment; null once the run is over.
    pub pids: Option<u64>,
    /// Processes and threads at the peak.
    pub pids_peak: Option<u64>,
    /// Forks that its limit `pids` refused.
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

fn seconds(us: Option<u64>) -> Option<f64> {
    us.map(|us| us as f64 / 1e6)
}

/// Why the kernel killed a run for its memory: `out of memory: limit 64 MiB, peak 64 MiB`.
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
