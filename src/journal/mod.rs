//! The durable record of a task: an append-only file of checksummed frames of protobuf records.
//!
//! Invariants: one writer (the keeper, which holds the file's lock); a frame holds everything that
//! one fdatasync made durable; nothing is acted upon before its frame is on disk.
//! A compaction puts a snapshot in the place of old records; records are numbered as if it had not.
//! This room frames, checks, appends and reads records. It does not interpret them.

mod checksummed_frame;
#[cfg(test)]
mod crash_tests;
mod features;
mod file;
mod read;
mod records;
mod storage;
#[cfg(test)]
mod tests;

pub use features::{Beyond, Feature, Features, HEADER_VERSION, check_understood, is_understood};
pub use file::{Compacted, Journal, open_locked};
pub use read::{JournalError, Replay, read, read_file, read_of};
pub use records::{
    Accepted, Acknowledged, Again, Checked, Closed, Cover, End, Exceeded, Exec, Executor, Groups,
    Header, Health, How, Init, KillRequest, Kind, LaunchFailure, Lost, Need, Notice, Opened,
    Record, Restart, Signal, SignalSent, Snapshot, Stage, Start, Subscribed, TaskState, Tenure,
    TimedOut, Totals, Update, Usage,
};
pub use storage::FileStorage;
