//! What processes may use: cgroups (v1, v2, and both side by side), limits of setrlimit(2), and how
//! much was used.
//!
//! A limit is enforced or refused, never skipped. Groups are made below the group that dewar was
//! started in, so limits of that group hold for the tasks' processes too. This room knows nothing
//! of tasks' plans. It kills no process but those in groups that it made itself.

mod cgroupfs;
mod controllers;
mod disk;
mod group;
mod group_dir;
mod group_names;
mod hierarchies;
mod kill_group;
mod limits;
mod oom_events;
mod proc_usage;
mod rlimits;
mod survey;
mod systemd;
mod task_group;
mod tracking;
mod usage;

pub use disk::{DiskUsage, disk_usage};
pub use group::{Doors, Group};
pub use group_names::group_name;
pub use hierarchies::{Hierarchies, Hierarchy};
pub use limits::Limits;
pub use proc_usage::usage_of_processes;
pub use rlimits::{check_rlimits, rlimit_numbers};
pub use survey::{Mechanism, NO_GPU, Survey, Whose, has_limits};
pub use systemd::{DelegateError, delegate};
pub use task_group::{GroupError, TaskGroup};
pub use tracking::tracking;
pub use usage::Usage;
