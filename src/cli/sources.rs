//! What a follower waits for, by name.

use std::{io, os::fd::BorrowedFd};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// Something that may happen while a task is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The runner told something, or is gone.
    Session,
    /// Ctrl-C or SIGTERM came.
    Stops,
    /// The user pressed Ctrl-Z.
    Suspends,
    /// The terminal has another size, or is ours again.
    Resizes,
    /// Keys were pressed.
    Keyboard,
    /// Processes may have printed something.
    Logs,
}

/// Descriptors that are waited for together.
#[derive(Default)]
pub(super) struct Sources<'fd> {
    names: Vec<Source>,
    fds: Vec<PollFd<'fd>>,
}

/// The sources at which something happened.
#[derive(Debug)]
pub(super) struct Ready(Vec<Source>);

impl<'fd> Sources<'fd> {
    pub fn add(&mut self, name: Source, fd: BorrowedFd<'fd>) {
        self.names.push(name);
        self.fds.push(PollFd::new(fd, PollFlags::POLLIN));
    }

    /// Waits until something happens, a signal comes, or the time is over; then nothing may be
    /// ready.
    ///
    /// # Errors
    /// What poll says.
    pub fn wait(mut self, timeout: PollTimeout) -> io::Result<Ready> {
        match poll(&mut self.fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Ready(Vec::new())),
            Err(errno) => return Err(errno.into()),
        }
        let named = self.names.into_iter().zip(&self.fds);
        let ready = named.filter(|(_, fd)| fd.any() == Some(true));
        Ok(Ready(ready.map(|(name, _)| name).collect()))
    }
}

impl Ready {
    pub fn has(&self, source: Source) -> bool {
        self.0.contains(&source)
    }

    /// True when only time has passed, or a signal came.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsFd, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn what_happened_is_known_by_its_name() {
        let (mut writes, reads) = UnixStream::pair().unwrap();
        let (_held, silent) = UnixStream::pair().unwrap();
        let wait = || {
            let mut sources = Sources::default();
            sources.add(Source::Session, silent.as_fd());
            sources.add(Source::Logs, reads.as_fd());
            sources.wait(PollTimeout::ZERO).unwrap()
        };
        assert!(wait().is_empty());
        writes.write_all(b"x").unwrap();
        let ready = wait();
        assert!(ready.has(Source::Logs) && !ready.has(Source::Session));
    }
}
