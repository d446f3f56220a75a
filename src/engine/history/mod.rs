//! From records to meaning: status, explanations, graphs, and snapshots for compactions.
//!
//! Pure: records in, values out; it reads no file and no clock. The same records give the same
//! values, in every process that reads them.

mod apply;
mod explain;
mod graph;
mod growth;
mod held;
mod history;
mod in_words;
mod output_schema;
mod past;
mod replay;
mod run;
mod signal;
mod snapshot;
#[cfg(test)]
mod snapshot_tests;
mod status;
mod usage_status;
mod wall_time;

pub use explain::{Explanation, explain};
pub use graph::{Graph, GraphNode};
pub(crate) use growth::Growth;
pub use held::{Held, needed, promise};
pub(crate) use history::next_start_at;
pub use in_words::InWords;
pub use output_schema::output_schema;
pub use replay::Model;
pub(crate) use snapshot::snapshot;
pub use status::{
    Event, NoticeKind, ProcessState, ProcessStatus, RunEvent, RunStatus, StateStatus, StatusList,
    TaskEvent, TaskStatus,
};
pub use usage_status::UsageStatus;
pub use wall_time::WallTime;
