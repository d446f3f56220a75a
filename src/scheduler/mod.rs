//! The companion scheduler: jobs of many instances on a Mesos cluster, through our own executor.
//!
//! Mesos is the distributed engine; this room keeps what is wanted, answers offers and survives its own
//! death. `core/` decides; `shell` carries between it, the journal (`store`), the master (`link`, `wire`)
//! and people (`api`). It knows nothing of processes.

mod api;
mod begin;
pub mod core;
mod guard;
mod link;
mod metrics;
mod ranges;
mod shell;
mod store;
mod watch;
mod wire;

pub use api::{QuotaBody, Submission};
pub use begin::{Beginning, Options, SOCKET, TOKEN, run};
pub use ranges::parse_instances;
pub use shell::SchedulerError;
pub use store::{Locked, Store, StoreError, Written, directory, lock};
pub use wire::{ExecutorCommand, Framework, Meaning, Translator};
