//! The sandbox of a task: its directory and the accounts its processes run as.
//!
//! This room knows nothing of plans, and enforces nothing yet.

mod account;
mod directory;
mod env_file;
mod environment;

pub use account::{Account, AccountError};
pub use directory::{SandboxError, prepare};
pub use env_file::{EnvFileError, Reader, read_env_file};
pub use environment::{assignments, file_name, own_variables};
