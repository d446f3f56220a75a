//! Bodies of requests: what a client may send. They are read by `strict`, which refuses every other
//! field.

use std::collections::BTreeSet;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::bad_request::Refused;
use crate::{
    mesos::scheduler::{
        core::{Amounts, UNLIMITED, mib, thousandths},
        ranges::parse_instances,
    },
    task::Bytes,
};

/// The most cores that a quota may have; no cluster has more.
const MOST_CORES: f64 = 1e9;

/// A job as clients send it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The job file's text.
    pub job: String,
    /// True when the job file is JSON, false when it is YAML.
    #[serde(default)]
    pub job_is_json: bool,
    /// The text of the task file that the job file names.
    #[serde(default)]
    pub task: Option<String>,
    /// True when the task file is JSON, false when it is YAML.
    #[serde(default)]
    pub task_is_json: bool,
    /// The role of a job file that names none.
    #[serde(default)]
    pub role: String,
    /// Updates only: the instances to update, as in `0-2,5`; absent: all.
    #[serde(default)]
    pub instances: Option<String>,
    /// Updates only: update even if no known agent is large enough.
    #[serde(default)]
    pub force: bool,
}

/// The body of `kill` and `restart`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Instances {
    /// As in `0-2,5`; absent: all.
    #[serde(default)]
    pub(super) instances: Option<String>,
}

/// The body of `scale`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Count {
    pub(super) count: u32,
}

/// The body of `drain`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Over {
    /// The host is to be used again.
    #[serde(default)]
    pub(super) over: bool,
}

/// The body of a request that takes no fields.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// A quota as clients send it. An absent field keeps its limit, and is without a limit at first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaBody {
    /// Cores, fractions included.
    #[serde(default)]
    pub cpu: Option<f64>,
    /// Memory, as in `8GiB`.
    #[serde(default)]
    pub ram: Option<Bytes>,
    /// Disk space, as in `8GiB`.
    #[serde(default)]
    pub disk: Option<Bytes>,
    /// The number of GPUs.
    #[serde(default)]
    pub gpu: Option<u32>,
}

/// The limits of a quota.
pub(super) fn amounts(quota: &QuotaBody) -> Result<Amounts, Refused> {
    if let Some(cpu) = quota.cpu
        && !(0.0..=MOST_CORES).contains(&cpu)
    {
        let why = format!("{cpu} cores: 0 to {MOST_CORES} can be");
        return Err(Refused::new(StatusCode::BAD_REQUEST, why));
    }
    Ok(Amounts {
        cpus: quota.cpu.map_or(UNLIMITED, thousandths),
        mem: quota.ram.map_or(UNLIMITED, mib),
        disk: quota.disk.map_or(UNLIMITED, mib),
        gpus: quota.gpu.map_or(UNLIMITED, |count| u64::from(count) * 1000),
    })
}

/// The numbers in a text such as `0-2,5`; none when there is no text, which means all instances.
pub(super) fn numbers(text: Option<&str>) -> Result<BTreeSet<u32>, Refused> {
    let parsed = text.map(parse_instances).transpose();
    let parsed =
        parsed.map_err(|error| Refused::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(parsed.unwrap_or_default())
}
