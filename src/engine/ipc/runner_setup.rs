//! What a new runner is told on its command line, and the hidden verbs of our own binary.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// What becomes a runner.
#[derive(Debug)]
pub struct RunnerKind {
    /// The verb of our binary by which it is exec'ed.
    pub verb: &'static str,
    /// What runs in its process; it returns the exit code.
    pub main: fn(RunnerSetup) -> u8,
}

/// What a runner needs to live.
#[derive(Debug)]
pub struct RunnerSetup {
    /// The socket to its keeper.
    pub link: OwnedFd,
    /// Where clients connect.
    pub listener: OwnedFd,
    /// The task's directory.
    pub directory: OwnedFd,
    /// A client that is connected already.
    pub client: Option<OwnedFd>,
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
            // SAFETY: our keeper left this descriptor open for us, and nothing else here knows it.
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

/// The hidden verb by which a root is exec'ed, with the socket as its standard input.
pub const ROOT_VERB: &str = "__root";

/// The hidden verb by which a local runner is exec'ed, followed by three descriptor numbers.
pub const RUNNER_VERB: &str = "__runner";

/// The exit code of a runner that cannot believe its journal.
pub const DISTRUST: u8 = 71;

/// The exit code of a runner whose journal needs a later version: the journal is believed.
pub const UNFIT: u8 = 72;
