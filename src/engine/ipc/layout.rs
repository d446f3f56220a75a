//! Names of the files in a task's directory, and how the directory is opened.
//!
//! Names are for ever: another version of dewar looks for them.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, readlinkat, renameat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat},
};

/// The journal's name in the task's directory.
pub const JOURNAL: &str = "journal";

/// The name of the shared mapping's file.
pub const LIVE: &str = "live";

/// What `live` is a link to when the task is held to something. Roots of versions before features
/// had numbers follow no link there, so they do not take up a task that they would run bare; a
/// reader that only looks at it follows the link.
const LIVE_HELD: &str = "live.held";

/// The name of the socket that clients connect to.
pub const SOCKET: &str = "socket";

/// What root, keeper and runner have to say about themselves.
pub(crate) const ENGINE_LOG: &str = "engine.log";

/// Opens a directory.
///
/// # Errors
/// What open says.
pub fn open_directory(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

/// The name of the file behind [`LIVE`]: a root opens and locks that one.
pub fn live_file(directory: &impl AsFd) -> &'static str {
    match readlinkat(directory, LIVE) {
        Ok(target) if target.as_os_str() == LIVE_HELD => LIVE_HELD,
        _ => LIVE,
    }
}

/// Makes [`LIVE`] a link to the same file, so that older roots refuse the task. At every moment the
/// name leads to that file, whose lock the caller has.
///
/// # Errors
/// What the system says.
pub fn refuse_older_roots(directory: &impl AsFd) -> io::Result<()> {
    const FRESH: &str = ".live";
    if live_file(directory) == LIVE_HELD {
        return Ok(());
    }
    for leftover in [LIVE_HELD, FRESH] {
        match unlinkat(directory, leftover, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    linkat(directory, LIVE, directory, LIVE_HELD, AtFlags::empty())?;
    symlinkat(LIVE_HELD, directory, FRESH)?;
    renameat(directory, FRESH, directory, LIVE)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_held_task_has_the_same_live_file_behind_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let opened = open_directory(&directory.path().display().to_string()).unwrap();
        fs::write(path(LIVE), "pids").unwrap();
        assert_eq!(live_file(&opened), LIVE);
        // What a root that was killed in the middle left does no harm.
        fs::write(path(".live"), "").unwrap();
        for _ in 0..2 {
            refuse_older_roots(&opened).unwrap();
            assert_eq!(live_file(&opened), LIVE_HELD);
            assert_eq!(fs::read_to_string(path(LIVE)).unwrap(), "pids");
            assert!(path(LIVE).is_symlink());
        }
        // Another link is not ours to follow.
        fs::remove_file(path(LIVE)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path(LIVE)).unwrap();
        assert_eq!(live_file(&opened), LIVE);
    }
}
