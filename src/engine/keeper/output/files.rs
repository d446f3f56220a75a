//! Opening the log files of a run: SANDBOX/.logs/PROCESS/RUN/stdout and stderr.
//!
//! The user's processes can write in the sandbox, and the keeper may be root: so every step is
//! taken from a directory's descriptor, no link is followed, and only plain files that have no
//! other name are opened.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl, open, openat},
    sys::stat::{Mode, mkdirat},
    unistd::{Gid, Uid, fchown},
};

use crate::sys::errno::placed;

/// The directory of all logs within the sandbox.
pub(crate) const LOGS: &str = ".logs";

/// Opens (and makes) the log directory of a run. With `owner`, what is made belongs to them.
///
/// # Errors
/// What the system says, with the path that it said it of.
pub(crate) fn directory(
    sandbox: &Path,
    process: &str,
    run: u32,
    owner: Option<(u32, u32)>,
) -> io::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut directory = open(sandbox, flags, Mode::empty())
        .map_err(|errno| placed(sandbox.display(), errno.into()))?;
    let run = run.to_string();
    let mut path = sandbox.to_path_buf();
    for step in [LOGS, process, &run] {
        path.push(step);
        directory =
            enter(directory.as_fd(), step, owner).map_err(|error| placed(path.display(), error))?;
    }
    Ok(directory)
}

fn enter(parent: BorrowedFd<'_>, name: &str, owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    let made = match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(errno) => return Err(errno.into()),
    };
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    if let (true, Some((uid, gid))) = (made, owner) {
        fchown(
            &directory,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
        )?;
    }
    Ok(directory)
}

/// Opens a log file for appending.
///
/// # Errors
/// What the system says; `InvalidInput` when something other than a plain file of one name is
/// there.
pub(crate) fn open_log(
    directory: BorrowedFd<'_>,
    name: &str,
    owner: Option<(u32, u32)>,
) -> io::Result<File> {
    // O_NONBLOCK: a FIFO that a user planted must not hang the keeper.
    let flags = OFlag::O_WRONLY
        | OFlag::O_CREAT
        | OFlag::O_APPEND
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_CLOEXEC;
    let fd = openat(directory, name, flags, Mode::from_bits_truncate(0o644))
        .map_err(|errno| placed(name, errno.into()))?;
    let file = File::from(fd);
    let meta = file.metadata()?;
    if !meta.is_file() || meta.nlink() != 1 {
        let what = io::Error::new(io::ErrorKind::InvalidInput, "not a plain file of its own");
        return Err(placed(name, what));
    }
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    let own = Uid::effective().as_raw();
    let (uid, gid) = owner.unwrap_or((own, Gid::effective().as_raw()));
    if meta.uid() != uid {
        // An empty file of the keeper's user was made just now, perhaps by a keeper that died over
        // it. Any other belongs to a user, and was moved here by one who wants it.
        if meta.uid() != own || meta.len() > 0 {
            let what = io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it belongs to another user",
            );
            return Err(placed(name, what));
        }
        fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_and_fifos_that_a_user_planted_are_refused() {
        let sandbox = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let run = sandbox.path().join(".logs/a/0");
        fs::create_dir_all(run.parent().unwrap()).unwrap();

        symlink(elsewhere.path(), &run).unwrap();
        assert!(directory(sandbox.path(), "a", 0, None).is_err());
        fs::remove_file(&run).unwrap();

        let opened = directory(sandbox.path(), "a", 0, None).unwrap();
        symlink(elsewhere.path().join("victim"), run.join("stdout")).unwrap();
        assert!(open_log(opened.as_fd(), "stdout", None).is_err());
        fs::write(elsewhere.path().join("victim"), "").unwrap();
        fs::hard_link(elsewhere.path().join("victim"), run.join("stderr")).unwrap();
        assert!(open_log(opened.as_fd(), "stderr", None).is_err());
        nix::unistd::mkfifo(&run.join("fifo"), Mode::S_IRWXU).unwrap();
        assert!(open_log(opened.as_fd(), "fifo", None).is_err());
        assert!(open_log(opened.as_fd(), "plain", None).is_ok());
        if Uid::effective().is_root() {
            fs::write(run.join("secret"), "root's own").unwrap();
            let nobody = Some((65534, 65534));
            assert!(open_log(opened.as_fd(), "secret", nobody).is_err());
            assert!(open_log(opened.as_fd(), "fresh", nobody).is_ok());
        }
    }
}
