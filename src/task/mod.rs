//! What a task and a job *are*: plain types, units and signals.
//!
//! Nothing here reads text or decides anything; it serialises to the JSON that journals and people have.

mod shown_bytes;
mod signals;
mod task;
mod units;

pub use shown_bytes::shown_bytes;
pub use signals::StopSignal;
pub use task::{
    Backoff, Condition, Constraint, Destination, Health, HttpProbe, Isolation, Level, Lifecycle,
    LogMode, Logger, Probe, Process, Protection, Resources, Rlimit, Rlimits, Rotate, Task,
    TcpProbe, Volume, VolumeKind,
};
pub(crate) use task::{FINALIZATION_WAIT, MAX_RUNS, MIN_DURATION};
pub use units::{Bytes, Period};
