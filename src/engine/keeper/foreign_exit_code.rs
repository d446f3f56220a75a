//! The exit code of a process that is not our child, where the kernel tells it (Linux 6.15).
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    sys::wait::waitpid,
    unistd::{ForkResult, fork},
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::journal::{How, Lost};

/// `struct pidfd_info` of linux/pidfd.h in its first size, 64 bytes.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xff, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::Ioctl = 0xc040_ff0b_u32 as libc::Ioctl;

/// How the process behind `pidfd` ended. It must have been reaped by its parent.
pub(super) fn exit_of_stranger(pidfd: BorrowedFd<'_>) -> How {
    match wait_status(pidfd) {
        Ok(Some(status)) if libc::WIFEXITED(status) => {
            How::Exited(libc::WEXITSTATUS(status) as u32)
        }
        Ok(Some(status)) if libc::WIFSIGNALED(status) => {
            How::Signaled(libc::WTERMSIG(status) as u32)
        }
        Ok(_) => lost("root and keeper died before it did"),
        Err(error) => lost(&format!("its exit code cannot be read: {error}")),
    }
}

pub(super) fn lost(reason: &str) -> How {
    How::Lost(Lost {
        reason: reason.to_owned(),
    })
}

fn wait_status(pidfd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut info = PidfdInfo {
        mask: PIDFD_INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the kernel writes at most the 64 bytes that the request's size field announces.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code))
}

/// Whether this kernel tells exit codes of strangers: tried with a child of our own. Only for a
/// process with one thread.
pub(super) fn is_supported() -> bool {
    fn try_it() -> io::Result<bool> {
        const CODE: i32 = 42;
        // SAFETY: the child leaves at once and runs nothing else.
        let child = match unsafe { fork() }? {
            // SAFETY: it leaves at once.
            ForkResult::Child => unsafe { libc::_exit(CODE) },
            ForkResult::Parent { child } => child,
        };
        let pid = Pid::from_raw(child.as_raw()).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd: io::Result<OwnedFd> =
            pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from);
        waitpid(child, None)?;
        Ok(wait_status(pidfd?.as_fd())? == Some(CODE << 8))
    }
    try_it().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_tells_at_all_tells_the_truth() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "exit 7"])
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        let how = exit_of_stranger(pidfd.as_fd());
        assert!(matches!(how, How::Exited(7) | How::Lost(_)), "{how:?}");
    }
}
