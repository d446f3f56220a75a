//! The sandbox of a task: its directory and the accounts its processes run as.
//!
//! This room knows nothing of plans, and enforces nothing yet.

mod account;
mod directory;

pub use account::{Account, AccountError};
pub use directory::{SandboxError, prepare};
