//! The sandbox of a task: its directory, the accounts its processes run as, and how far it is kept
//! from the machine (`private`).
//!
//! This room knows nothing of plans.

mod account;
mod beneath;
mod directory;
mod env_file;
mod environment;
pub mod private;

pub use account::{Account, AccountError};
pub use beneath::open_beneath;
pub use directory::{SandboxError, prepare};
pub use env_file::{EnvFileError, Reader, read_env_file};
pub use environment::{assignments, file_name, own_variables};
