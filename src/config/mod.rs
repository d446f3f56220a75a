//! Task files: from text to a validated, fully resolved [`Task`], or to every mistake at once.
//!
//! text → `node` tree with places → templates → `decode` → `check`. Every stage collects all
//! mistakes; the next one works with what is left.
//! This room reads and checks. It runs nothing and writes nothing.

mod check;
mod decode;
mod decode_around;
mod decode_isolation;
mod decode_job;
mod decode_launch;
mod decode_logger;
mod decode_resources;
mod diagnostic;
mod fields;
mod health;
mod job;
mod job_schema;
mod json;
mod json_schema;
mod lifecycle;
mod load;
mod node;
mod schema;
mod signals;
mod template;
#[cfg(test)]
mod tests;
mod units;
mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use job::{
    Job, JobMistakes, JobSource, MOST_INSTANCES, PartitionPolicy, Placement, Rule, UpdateConfig,
    is_name, job_sets,
};
pub use job_schema::job_schema;
pub use json_schema::json_schema;
pub use load::{Bindings, Document, Resolved, Wrapper};
pub use schema::{
    Backoff, Condition, Constraint, Destination, Health, HttpProbe, Isolation, Level, Lifecycle,
    LogMode, Logger, Probe, Process, Protection, Resources, Rlimit, Rlimits, Rotate, Task,
    TcpProbe, Volume, VolumeKind,
};
pub use signals::StopSignal;
pub use units::{Bytes, Period};
