//! Starting the runner: by fork while the keeper is young, by exec of our own binary later.
//!
//! A keeper with threads must not fork Rust code into life, and exec picks up a replaced binary:
//! that is the upgrade. The runner dies with its keeper (PDEATHSIG), never outlives it.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{AddressFamily, SockFlag, SockType, socketpair},
    unistd::{ForkResult, fork},
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// What a runner needs to live.
#[derive(Debug)]
pub struct RunnerSetup {
    /// To its keeper.
    pub link: OwnedFd,
    /// Where clients connect.
    pub listener: OwnedFd,
    /// The task's directory.
    pub directory: OwnedFd,
    /// A client that is connected already.
    pub client: Option<OwnedFd>,
}

/// The hidden verb by which a local runner is exec'ed, followed by three descriptor numbers.
pub const RUNNER_VERB: &str = "__runner";

/// What becomes a runner.
#[derive(Debug)]
pub struct RunnerKind {
    /// The verb of our binary by which it is exec'ed.
    pub verb: &'static str,
    /// What runs in its process; it returns the exit code.
    pub main: fn(RunnerSetup) -> u8,
}

/// The exit code of a runner that cannot believe its journal.
pub const DISTRUST: u8 = 71;

/// The keeper's side of a runner.
#[derive(Debug)]
pub(super) struct RunnerProcess {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub link: OwnedFd,
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
            std::process::exit(i32::from(code));
        }
        ForkResult::Parent { child } => {
            drop((setup, inherited));
            Ok(RunnerProcess {
                pid: child.as_raw(),
                pidfd: pidfd(child.as_raw())?,
                link: ours,
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
    let child = spawn(executable).or_else(|error| {
        tracing::warn!("cannot execute {executable}: {error}; going on with the present image");
        spawn("/proc/self/exe")
    });
    for fd in handed {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    let pid = child?.id() as i32;
    Ok(RunnerProcess {
        pid,
        pidfd: pidfd(pid)?,
        link: ours,
    })
}

impl RunnerSetup {
    /// Takes over the descriptors named on the command line of an exec'ed runner.
    ///
    /// # Errors
    /// `InvalidInput` unless there are three numbers of open descriptors.
    pub fn from_arguments(arguments: &[String]) -> io::Result<RunnerSetup> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let take = |text: &String| -> io::Result<OwnedFd> {
            let fd: RawFd = text.parse().map_err(|_| invalid())?;
            // SAFETY: only checked for being open; ownership is taken below, once.
            let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
            if fd < 3 || fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_err() {
                return Err(invalid());
            }
            // SAFETY: our keeper left this descriptor open for us and nobody else here knows it.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        };
        match arguments {
            [link, listener, directory] if link != listener && listener != directory => {
                Ok(RunnerSetup {
                    link: take(link)?,
                    listener: take(listener)?,
                    directory: take(directory)?,
                    client: None,
                })
            }
            _ => Err(invalid()),
        }
    }
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
