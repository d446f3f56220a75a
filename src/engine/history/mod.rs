//! From records to meaning: status, explanations, graphs, and what is still needed of a journal.
//!
//! Pure: records in, values out. The same records give the same values, in every process that reads them.

mod compaction;
mod explain;
mod graph;
mod history;
mod past;
mod replay;
mod status;
mod usage_status;

pub(crate) use compaction::{Growth, snapshot};
pub use explain::{Explanation, explain};
pub use graph::{Graph, GraphNode};
pub(crate) use history::next_start_at;
pub use replay::Model;
pub use status::{
    Event, NoticeKind, ProcessStatus, RunEvent, RunStatus, StateStatus, StatusList, TaskEvent,
    TaskStatus,
};
pub use usage_status::UsageStatus;
