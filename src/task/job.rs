//! A job: one task, run as many instances on a cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::parse_units::{Bytes, Period};

/// The most instances that a job may have: more is likely to be a typing error.
pub const MOST_INSTANCES: u32 = 100_000;

/// Instances of one task, and how a cluster is to run them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The role: the user that runs the job where executors are root, and whose quota it counts
    /// against.
    pub role: String,
    /// The environment, as in `devel`, `test`, `staging1` or `prod`.
    pub environment: String,
    /// The name of the job; by default that of its task.
    pub name: String,
    /// How many there are when the job is created.
    pub instances: u32,
    /// Run again whenever it ends; else only until it ends well.
    pub service: bool,
    /// Of a job that is no service: failures after which an instance is failed for good; 0: no
    /// limit.
    pub max_task_failures: u32,
    /// Higher ones are placed first.
    pub priority: i32,
    /// Where instances may run.
    pub constraints: Vec<Placement>,
    /// How instances are replaced.
    pub update: UpdateConfig,
    /// What becomes of instances on unreachable agents.
    pub partition: PartitionPolicy,
    /// Cores of each instance.
    pub cpu: f64,
    /// Memory of each instance.
    pub ram: Bytes,
    /// Space of each instance.
    pub disk: Bytes,
    /// Devices of each instance.
    pub gpu: u32,
    /// Every port that the task refers to, and those that the job lists, by name.
    pub ports: Vec<String>,
    /// The task as written, as JSON: its templates are filled in where it runs.
    pub task: String,
    /// What stands around the task for its executor (`health_check_config`, `lifecycle`), as JSON.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub around: BTreeMap<String, String>,
}

impl Job {
    /// The key of the job in its cluster, `ROLE/ENVIRONMENT/NAME`.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.role, self.environment, self.name)
    }
}

/// Where instances of a job may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// An agent's attribute; `host` is its host name.
    pub attribute: String,
    /// What must be true of it.
    pub rule: Rule,
}

/// What must be true of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// At most so many instances where it has the same value.
    Limit(u32),
    /// It has one of these values.
    In(Vec<String>),
    /// It has none of these values.
    NotIn(Vec<String>),
}

/// How instances are replaced. Names and defaults are Aurora's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateConfig {
    /// Instances that are replaced at a time.
    pub batch_size: u32,
    /// For so long an instance must run, healthy, before it counts as replaced.
    pub watch: Period,
    /// Failures of one instance that are forgiven.
    pub max_per_instance_failures: u32,
    /// Failed instances that are forgiven.
    pub max_total_failures: u32,
    /// True when an update that fails is undone.
    pub rollback_on_failure: bool,
    /// True when a batch begins only after the whole batch before it is done.
    pub wait_for_batch: bool,
}

impl Default for UpdateConfig {
    fn default() -> UpdateConfig {
        UpdateConfig {
            batch_size: 1,
            watch: Period::from_secs(45),
            max_per_instance_failures: 0,
            max_total_failures: 0,
            rollback_on_failure: true,
            wait_for_batch: false,
        }
    }
}

/// What becomes of instances on unreachable agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPolicy {
    /// True when they are replaced.
    pub reschedule: bool,
    /// How long an agent must have been unreachable before.
    pub delay: Period,
}

impl Default for PartitionPolicy {
    fn default() -> PartitionPolicy {
        PartitionPolicy {
            reschedule: true,
            delay: Period::from_secs(0),
        }
    }
}

/// True when `name` may be a part of a job's key, and so of a task's id.
pub fn is_name(name: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && name.len() <= 64 && name.chars().all(is_good) && !name.starts_with('.')
}
