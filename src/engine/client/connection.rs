//! Where the runner of a task listens, and news that this may have changed.
//!
//! It only connects and waits; what is said over a connection is the session's.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::{SocketAddr, UnixStream},
    },
    path::Path,
};

use nix::{
    fcntl::{OFlag, open},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        inotify::{AddWatchFlags, InitFlags, Inotify},
        stat::Mode,
    },
};

use crate::engine::ipc::SOCKET;

/// What is at the socket of a task.
#[derive(Debug)]
pub(super) enum Connection {
    /// A runner, now or as soon as there is one.
    Open(UnixStream),
    /// No root or keeper has the socket open.
    Closed,
}

/// Connects to the runner of the task in `directory`.
///
/// # Errors
/// What the system says, other than that the socket is closed.
pub(super) fn connect(directory: &Path) -> io::Result<Connection> {
    // The path of a socket may be longer than a socket address.
    let fd = open(
        directory,
        OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", fd.as_raw_fd());
    let address = SocketAddr::from_pathname(path)?;
    match UnixStream::connect_addr(&address) {
        Ok(stream) => Ok(Connection::Open(stream)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(Connection::Closed)
        }
        Err(error) => Err(error),
    }
}

/// Waits until the root or keeper of the task in a directory may be another one: a socket was made,
/// or the lock of the journal was let go.
#[derive(Debug)]
pub(super) struct Vigil(Inotify);

impl Vigil {
    /// Changes count from here on.
    ///
    /// # Errors
    /// What inotify says.
    pub fn begin(directory: &Path) -> io::Result<Vigil> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
        let changes = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_CLOSE_WRITE;
        inotify.add_watch(directory, changes)?;
        Ok(Vigil(inotify))
    }

    /// False when nothing changed for 10 seconds.
    ///
    /// # Errors
    /// What poll says.
    pub fn wait(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::from(10_000u16))?;
        if ready > 0 {
            self.0.read_events()?;
        }
        Ok(ready > 0)
    }
}
