//! What processes may use: cgroups (v1, v2, and both side by side), the kernel's own limits, and how
//! much was used.
//!
//! A limit is enforced or refused, never skipped. Groups are made below the group that we were
//! started in, so whatever holds for us holds for the processes too. This room knows nothing of
//! tasks' plans; it starts and kills nothing but what is in a group of its own making.

mod cgroupfs;
mod controllers;
mod disk;
mod group;
mod hierarchies;
mod limits;
mod memory_events;
mod proc_usage;
mod rlimits;
mod survey;
mod systemd;
mod usage;

pub use disk::{DiskUsage, disk_usage};
pub use group::{Doors, Group, GroupError, TaskGroup, group_name};
pub use hierarchies::Site;
pub use limits::Limits;
pub use proc_usage::own_usage;
pub use rlimits::{check_rlimits, rlimit_numbers};
pub use survey::{Mechanism, NO_GPU, Survey, Whose, has_limits, needs_group};
pub use systemd::{DelegateError, delegate};
pub use usage::Usage;
