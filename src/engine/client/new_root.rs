//! New roots: telling one that was forked what to begin, and executing one that takes up a task.
//!
//! A client that has run for a while cannot fork a root off itself any more, because the root would live in a
//! copy of its memory; so it executes the own binary again.

use std::{
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    engine::ipc::{Go, ROOT_VERB, Request, frame_message},
    journal::Header,
};

/// Tells a fresh root to begin the task of `header` in `directory`, and its runner the first request:
/// in one piece, because the task may be over before a second one comes.
///
/// # Errors
/// What the socket says.
pub(super) fn launch(
    mut root: &UnixStream,
    directory: &Path,
    header: Header,
    request: &Request,
) -> io::Result<()> {
    let go = Go {
        directory: directory.display().to_string(),
        header: Some(header),
        executable: executable(),
    };
    let mut message = frame_message(&go);
    message.extend(request.line()?);
    root.write_all(&message)
}

/// Makes a root that takes up the task in `directory`; the socket is connected to what becomes its
/// runner. `prepare` is told the root's pid before the root begins.
///
/// # Errors
/// What the system says.
pub(super) fn take_up(
    directory: &Path,
    header: Option<Header>,
    prepare: impl FnOnce(u32),
) -> io::Result<UnixStream> {
    let executable = executable();
    let (socket, pid) = exec_root(&executable)?;
    prepare(pid);
    Go {
        directory: directory.display().to_string(),
        header,
        executable,
    }
    .send(&socket)?;
    Ok(socket)
}

/// Executes a root that waits for its [`Go`] at the other end of the socket; returns its pid too.
fn exec_root(executable: &str) -> io::Result<(UnixStream, u32)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new(executable)
        .arg(ROOT_VERB)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .spawn()?;
    Ok((ours, child.id()))
}

/// What to execute for a new root or runner: by name, so that a replaced binary is picked up.
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
