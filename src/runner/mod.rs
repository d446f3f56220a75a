//! The runner: replays the journal, feeds events to the plan, sends its decisions to the keeper,
//! keeps timers, and answers clients.
//!
//! It owns no fact: all it knows is the journal, replayed. Killing it costs a replay and nothing
//! else. It never touches a process.

mod checkup;
mod clients;
mod compaction;
mod disk_watch;
mod engine;
mod explain;
mod gc;
mod graph;
mod history;
mod launches;
mod main_loop;
mod measure;
mod overseer;
mod probe;
mod replay;
mod running;
mod status;
mod store;
mod take_up;
mod timer;

pub use clients::{Request, write_request};
pub use explain::{Explanation, explain};
pub use gc::{Candidate, Collected, Policy, collect};
pub use graph::{CriticalStep, Graph, GraphNode};
pub use history::{History, wall_time};
pub use launches::check_isolation;
pub use main_loop::{LOCAL, runner_main};
pub use measure::{Measure, UsageStatus, measure};
pub use overseer::{Members, Overseer, Want};
pub use replay::{Model, facts_of};
pub use running::Running;
pub use status::{
    Event, NoticeEvent, NoticeKind, ProcessStatus, RunEvent, RunStatus, StateStatus, StatusList,
    TaskEvent, TaskStatus,
};
pub use store::{Store, StoreError, Stored, is_task_id};
pub use take_up::{Connection, Vigil, connect, executable, launch, take_up};
