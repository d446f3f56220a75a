//! Names of the files in a task's directory, and how the directory is opened.
//!
//! Names are for ever: another version of dewar looks for them.

use std::os::fd::OwnedFd;

use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
};

/// The journal's name in the task's directory.
pub const JOURNAL: &str = "journal";

/// The name of the shared mapping's file.
pub const LIVE: &str = "live";

/// The name of the socket that clients connect to.
pub const SOCKET: &str = "socket";

/// What root, keeper and runner have to say about themselves.
pub(crate) const ENGINE_LOG: &str = "engine.log";

/// Opens a directory.
///
/// # Errors
/// What open says.
pub fn open_directory(path: &str) -> std::io::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}
