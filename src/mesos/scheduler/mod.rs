//! The companion scheduler: jobs of many instances on a Mesos cluster, run by dewar's executor.
//!
//! Mesos is the distributed engine. This room keeps what operators want, answers offers and
//! survives its own death. `core/` decides; the event loop carries its decisions to the journal,
//! the master (`master_link`, `translate`) and the clients of `api/`. It knows nothing of
//! processes.

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
