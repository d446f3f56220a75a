//! What a task and a job *are*: plain types, units and signals.
//!
//! These types serialise to the JSON that journals have and `dewar inspect` prints. Nothing here
//! reads files or decides anything. The defaults of task files are constructed here (`Task::of`,
//! `Process::named`, ...).

mod health;
mod isolation;
mod job;
mod logger;
mod parse_units;
mod resources;
mod shown_bytes;
mod signals;
mod task;

pub use health::{Health, HttpProbe, Lifecycle, Probe, TcpProbe};
pub use isolation::{Isolation, Level, Protection, Volume, VolumeKind};
pub use job::{Job, MOST_INSTANCES, PartitionPolicy, Placement, Rule, UpdateConfig, is_name};
pub use logger::{Destination, LogMode, Logger, Rotate};
pub use parse_units::{Bytes, Period};
pub use resources::{Resources, Rlimit, Rlimits};
pub use shown_bytes::shown_bytes;
pub use signals::StopSignal;
pub use task::{Backoff, Condition, Constraint, Process, Task};
