//! Our end of an output pipe.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::pipe2,
};

/// What a pipe of a process that writes much is grown to; what a user may have is bounded.
const LARGE: i32 = 1 << 20;

/// Our end of an output pipe. Reading from it never waits.
#[derive(Debug)]
pub(crate) struct Source(File);

impl Source {
    /// A pipe: our end, and the process' end. The latter can be read too, so that the process gets
    /// no SIGPIPE when the keeper dies.
    pub fn pipe() -> io::Result<(Source, OwnedFd)> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        let path = format!("/proc/self/fd/{}", write.as_raw_fd());
        let both = File::options().read(true).write(true).open(path)?;
        Ok((Source::of(read)?, both.into()))
    }

    /// The pipe of ours that a living process has as descriptor `number`, if it still has it: a
    /// dead keeper's pipe is found again in the process that writes to it.
    pub fn reopen(pid: i32, number: i32) -> Option<Source> {
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
        let path = format!("/proc/{pid}/fd/{number}");
        let is_pipe = std::fs::metadata(&path).is_ok_and(|meta| meta.file_type().is_fifo());
        if !is_pipe || flags & libc::O_ACCMODE != libc::O_RDWR {
            return None;
        }
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path);
        Source::of(file.ok()?.into()).ok()
    }

    /// Our end of a pipe that is there already.
    pub fn of(fd: OwnedFd) -> io::Result<Source> {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Source(File::from(fd)))
    }

    /// Makes room for what is written during a pause; false when the system does not let us.
    pub fn grow(&self) -> bool {
        fcntl(&self.0, FcntlArg::F_SETPIPE_SZ(LARGE)).is_ok_and(|size| size >= LARGE)
    }

    /// What tells this pipe from all others.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.ino())
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
