//! The client's side: finding whoever looks after a task, or making somebody do so.

use std::{
    io::{self, Write},
    os::{
        fd::AsRawFd,
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

use crate::{
    engine::{
        ipc::{Request, SOCKET, StartRequest, frame_message},
        keeper::exec_root,
    },
    journal::Header,
};

/// Who answers.
#[derive(Debug)]
pub enum Connection {
    /// A runner, now or as soon as there is one.
    Open(UnixStream),
    /// Nobody listens.
    Nobody,
}

/// Connects to whoever looks after the task in `directory`.
///
/// # Errors
/// What the system says, other than that nobody is there.
pub fn connect(directory: &Path) -> io::Result<Connection> {
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
            Ok(Connection::Nobody)
        }
        Err(error) => Err(error),
    }
}

/// Tells a fresh root to begin the task of `header` in `directory`, and whoever becomes its runner the
/// first request: in one piece, because the task may be over before a second one comes.
///
/// # Errors
/// What the socket says.
pub fn launch(
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
/// runner. `prepare` is told which process the root is before that one begins.
///
/// # Errors
/// What the system says.
pub fn take_up(
    directory: &Path,
    header: Option<Header>,
    prepare: impl FnOnce(u32),
) -> io::Result<UnixStream> {
    let executable = executable();
    let root = exec_root(&executable)?;
    prepare(root.pid);
    StartRequest {
        directory: directory.display().to_string(),
        header,
        executable,
    }
    .send(&root.socket)?;
    Ok(root.socket)
}

/// Waits until something changes about who looks after the task in `directory`: somebody begins to
/// listen, or lets go of the journal.
#[derive(Debug)]
pub struct Vigil(Inotify);

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
        use std::os::fd::AsFd;
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::from(10_000u16))?;
        if ready > 0 {
            self.0.read_events()?;
        }
        Ok(ready > 0)
    }
}

/// What to exec for a new root or runner: by name, so that a replaced binary is picked up.
pub fn executable() -> String {
    const ITSELF: &str = "/proc/self/exe";
    let Ok(path) = std::env::current_exe() else {
        return ITSELF.to_owned();
    };
    // What replaced a deleted binary has its name.
    let path = path.display().to_string();
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
    match Path::new(path).exists() {
        true => path.to_owned(),
        false => ITSELF.to_owned(),
    }
}
