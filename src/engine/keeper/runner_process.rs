//! Starting the runner: by fork while the keeper is young, by exec of our own binary later.
//!
//! A keeper with threads must not fork Rust code into life, and exec picks up a replaced binary:
//! that is the upgrade. The runner dies with its keeper (PDEATHSIG), never outlives it.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{AddressFamily, SockFlag, SockType, socketpair},
    unistd::{ForkResult, fork},
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{
    engine::ipc::{RunnerKind, RunnerSetup},
    sys::executable::ITSELF,
};

/// The keeper's side of a runner.
#[derive(Debug)]
pub(super) struct RunnerProcess {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub link: OwnedFd,
    /// It was made of the keeper's own image, not of the file that the task was begun with.
    pub is_own_image: bool,
}

/// Forks a runner. Only for a process with one thread.
///
/// # Errors
/// What the system says.
pub(super) fn fork_runner(
    listener: &OwnedFd,
    directory: &OwnedFd,
    client: Option<OwnedFd>,
    inherited: Vec<OwnedFd>,
    kind: &RunnerKind,
) -> io::Result<RunnerProcess> {
    let (ours, theirs) = link_pair()?;
    let setup = RunnerSetup {
        link: theirs,
        listener: listener.try_clone()?,
        directory: directory.try_clone()?,
        client,
    };
    // SAFETY: this process has one thread, so the child may run any code.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop((ours, inherited));
            let code = (kind.main)(setup);
            #[expect(clippy::exit, reason = "a forked child ends here")]
            std::process::exit(i32::from(code));
        }
        ForkResult::Parent { child } => {
            drop((setup, inherited));
            Ok(RunnerProcess {
                pid: child.as_raw(),
                pidfd: pidfd(child.as_raw())?,
                link: ours,
                is_own_image: true,
            })
        }
    }
}

/// Execs a runner: `executable`, or our own image when that cannot be run.
///
/// # Errors
/// What the system says of both.
pub(super) fn exec_runner(
    kind: &RunnerKind,
    executable: &str,
    listener: &OwnedFd,
    directory: &OwnedFd,
) -> io::Result<RunnerProcess> {
    let (ours, theirs) = link_pair()?;
    let handed = [theirs.as_fd(), listener.as_fd(), directory.as_fd()];
    for fd in handed {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    let spawn = |program: &str| {
        Command::new(program)
            .arg0("dewar")
            .arg(kind.verb)
            .args(handed.map(|fd| fd.as_raw_fd().to_string()))
            .stdin(Stdio::null())
            .spawn()
    };
    let mut is_own_image = executable == ITSELF;
    let child = spawn(executable).or_else(|error| {
        tracing::warn!("cannot execute {executable}: {error}; going on with the present image");
        is_own_image = true;
        spawn(ITSELF)
    });
    for fd in handed {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    let pid = child?.id() as i32;
    Ok(RunnerProcess {
        pid,
        pidfd: pidfd(pid)?,
        link: ours,
        is_own_image,
    })
}

fn link_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
    )?)
}

fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}
