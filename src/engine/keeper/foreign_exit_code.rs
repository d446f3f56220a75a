//! The exit code of a process that is not our child: as a zombie it tells a process that may trace
//! it, and once it is reaped the kernel does (Linux 6.15).
//!
//! Invariant: a process that is not reaped is never lost. Nothing waits here, and nothing is
//! reaped.
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

use crate::{
    journal::{How, Lost},
    sys::zombie,
};

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

/// How the dead process behind `pidfd`, which is `pid` and began at `start_ticks`, ended. `None`:
/// it is not reaped, and only then this process will be told.
pub(super) fn exit_of_stranger(pidfd: BorrowedFd<'_>, pid: i32, start_ticks: u64) -> Option<How> {
    if let Ok(Some(status)) = wait_status(pidfd) {
        return Some(how_of(status));
    }
    if let Some(status) = zombie::wait_status(pid, start_ticks) {
        return Some(how_of(status));
    }
    if !is_reaped(pidfd) {
        return None;
    }
    // It may have been reaped since the first question.
    Some(match wait_status(pidfd) {
        Ok(Some(status)) => how_of(status),
        Ok(None) => lost("root and keeper died before it did"),
        Err(error) => lost(&format!("its exit code cannot be read: {error}")),
    })
}

/// The end that a wait status tells of.
pub(super) fn how_of(status: i32) -> How {
    match status {
        status if libc::WIFEXITED(status) => How::Exited(libc::WEXITSTATUS(status) as u32),
        status if libc::WIFSIGNALED(status) => How::Signaled(libc::WTERMSIG(status) as u32),
        status => lost(&format!("it ended in an unknown way: {status}")),
    }
}

/// True when nothing of the process behind `pidfd` is left. No signal is sent: number 0 only asks.
fn is_reaped(pidfd: BorrowedFd<'_>) -> bool {
    let none = std::ptr::null_mut::<libc::siginfo_t>();
    // SAFETY: takes a descriptor and numbers; the null pointer says that there is no siginfo.
    let asked =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), 0, none, 0) };
    asked != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
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
        let how = exit_of_stranger(pidfd.as_fd(), pid.as_raw_pid(), 0);
        assert!(
            matches!(how, Some(How::Exited(7) | How::Lost(_))),
            "{how:?}"
        );
    }

    #[test]
    fn a_process_that_is_not_reaped_is_never_lost() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "exit 7"])
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        let ticks = crate::sys::process::stat(pid.as_raw_pid())
            .unwrap()
            .start_ticks;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        while !zombie::is_dead(pidfd.as_fd()) {
            std::thread::yield_now();
        }
        let exit = |ticks| exit_of_stranger(pidfd.as_fd(), pid.as_raw_pid(), ticks);
        assert_eq!(exit(ticks), Some(How::Exited(7)));
        // As if the kernel did not tell us of it.
        assert_eq!(exit(ticks + 1), None);
        child.wait().unwrap();
    }
}
