//! Finding the runner of a task, and new roots: telling one that was forked what to begin, and
//! executing one that takes up a task whose root and keeper have died.
//!
//! It only connects, starts and waits; what is said over a connection is the session's. A client
//! that has run for a while cannot fork a root off itself any more, because the root would live in
//! a copy of its memory; so it executes its own binary again.

use std::{
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::{SocketAddr, UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    fcntl::{OFlag, open},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        inotify::{AddWatchFlags, InitFlags, Inotify},
        stat::Mode,
    },
};

use crate::{
    engine::ipc::{ROOT_VERB, Request, SOCKET, StartRequest, frame_message},
    journal::Header,
    sys::executable::{ITSELF, executable},
};

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

/// Tells a fresh root to begin the task of `header` in `directory`, and its runner the first
/// request: in one piece, because the task may be over before a second one comes.
///
/// # Errors
/// What the socket says.
pub(super) fn launch(
    mut root: &UnixStream,
    directory: &Path,
    header: Header,
    request: &Request,
) -> io::Result<()> {
    let go = StartRequest {
        directory: directory.display().to_string(),
        header: Some(header),
        executable: executable(),
    };
    let mut message = frame_message(&go);
    message.extend(request.line()?);
    root.write_all(&message)
}

/// Makes a root that takes up the task in `directory`; the socket is connected to what becomes its
/// runner. `prepare` is told the root's pid before the root begins. After `silences` of roots that
/// said nothing the file of this program may be a half-written one: the present image is executed.
///
/// # Errors
/// What the system says.
pub(super) fn take_up(
    directory: &Path,
    header: Option<Header>,
    silences: usize,
    prepare: impl FnOnce(u32),
) -> io::Result<UnixStream> {
    const SILENT: usize = 2;
    let executable = executable();
    let (socket, pid) = exec_root(match silences {
        0..SILENT => &executable,
        SILENT.. => ITSELF,
    })?;
    prepare(pid);
    let request = StartRequest {
        directory: directory.display().to_string(),
        header,
        executable,
    };
    match request.send(&socket) {
        // It died before it read a word: its end of the conversation says so.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            tracing::info!("the new root: {error}");
        }
        sent => sent?,
    }
    Ok(socket)
}

/// Executes a root that waits for its [`StartRequest`] at the other end of the socket; returns its
/// pid too.
fn exec_root(executable: &str) -> io::Result<(UnixStream, u32)> {
    let (ours, theirs) = UnixStream::pair()?;
    let spawn = |program: &str| {
        let theirs = theirs.try_clone()?;
        Command::new(program)
            .arg(ROOT_VERB)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
    };
    let child = spawn(executable).or_else(|error| {
        tracing::warn!("cannot execute {executable}: {error}; going on with the present image");
        spawn(ITSELF)
    })?;
    Ok((ours, child.id()))
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
