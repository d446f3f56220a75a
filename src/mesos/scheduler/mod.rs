//! The companion scheduler: jobs of many instances on a Mesos cluster, through our own executor.
//!
//! Mesos is the distributed engine; this room keeps what is wanted, answers offers and survives its own
//! death. `core/` decides; `shell` carries between it, the journal (`store`), the master (`link`, `wire`)
//! and people (`api`). It knows nothing of processes.

mod api;
pub mod core;
mod event_loop;
mod journal;
mod master_link;
mod metrics;
mod ranges;
mod start;
mod translate;
mod watchers;

pub use api::{QuotaBody, Submission};
pub use event_loop::SchedulerError;
pub use journal::{Written, directory, lock};
pub use ranges::{RangeError, parse_instances};
pub use start::{Options, SOCKET, StartupNotice, TOKEN, run};
pub use translate::{ExecutorCommand, Framework};
