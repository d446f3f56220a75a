//! Descriptors of other processes.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A copy of another process' descriptor; `None` when it is closed by now.
pub fn copy_of(pid: u64, number: i32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(pid as i32).expect("a pid");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("a pidfd");
    // SAFETY: takes two descriptors and a zero.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    // SAFETY: the kernel made it for us.
    (copy >= 0).then(|| unsafe { OwnedFd::from_raw_fd(copy as i32) })
}
