//! How a process joins the namespaces of its private task: by two forks.
//!
//! A process cannot change its own pid namespace, and the keeper must be the parent. So a first
//! child joins the namespaces, forks the second one as its own sibling (CLONE_PARENT), tells its
//! pid through the gate and exits. The second child goes on as every child does.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{BorrowedFd, RawFd},
};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, waitid,
};

use super::{
    child::{ChildPlan, Gated, Pointers, adjust, child, enter_groups, errno, fork},
    steps::{Step, explain},
};
use crate::sys::errno::told;

/// What the first child tells the keeper through the gate: the pid of the second one, or 0, and
/// the step and errno that kept it from having one.
type Word = [u32; 2];

pub(super) fn fork_inside(
    plan: &ChildPlan<'_>,
    pointers: &Pointers,
    namespaces: i32,
    gate: BorrowedFd<'_>,
) -> io::Result<Gated> {
    // The keeper waits for the first child's end: it is a matter of microseconds.
    let flags = libc::SIGCHLD | libc::CLONE_VFORK;
    // SAFETY: as in `fork_plainly`; there is no CLONE_VM.
    let first = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match first {
        -1 => return Err(io::Error::last_os_error()),
        // SAFETY: in the child.
        0 => unsafe { first_child(plan, pointers, namespaces) },
        _ => {}
    }
    if let Some(pid) = Pid::from_raw(first as i32) {
        let waited = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
        waited.map_err(io::Error::from)?;
    }
    let mut bytes = [0u8; size_of::<Word>()];
    let read = rustix::io::retry_on_intr(|| rustix::io::read(gate, &mut bytes));
    let number =
        |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    match (read, number(0), number(4)) {
        (Ok(8), 0, error) => {
            let (reason, _) = explain(error, "");
            let source = io::Error::from_raw_os_error((error & 0xffff) as i32);
            Err(told(reason, source))
        }
        (Ok(8), pid, _) => {
            let pid = Pid::from_raw(pid as i32).ok_or(io::ErrorKind::NotFound)?;
            // Our child and not reaped: the pid is its.
            match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(pidfd) => Ok(Gated {
                    pid: pid.as_raw_pid(),
                    pidfd,
                }),
                Err(errno) => {
                    // Nothing would wait for it, and it may write into a slot that is another's.
                    end(pid)?;
                    Err(errno.into())
                }
            }
        }
        _ => Err(io::Error::other("it was killed while it was launched")),
    }
}

/// Ends a child of ours that is behind its gate.
fn end(pid: Pid) -> io::Result<()> {
    kill_process(pid, Signal::KILL)?;
    rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED))?;
    Ok(())
}

/// # Safety
/// In the first child only.
unsafe fn first_child(plan: &ChildPlan<'_>, pointers: &Pointers, namespaces: i32) -> ! {
    let tell = |word: Word| {
        // SAFETY: writes the eight bytes of `word`, then ends this process.
        unsafe {
            libc::write(plan.gate, word.as_ptr().cast(), size_of::<Word>());
            libc::_exit(0)
        }
    };
    // SAFETY: raw system calls with what was laid out before the fork.
    unsafe {
        if let Some(error) = adjust(plan) {
            tell([0, error]);
        }
        let init = plan
            .entry
            .map_or(-1, |(init, _)| std::os::fd::AsRawFd::as_raw_fd(&init));
        if libc::syscall(libc::SYS_setns, init, namespaces) != 0 {
            tell([0, Step::Namespaces.failed(errno())]);
        }
        let flags = libc::SIGCHLD | libc::CLONE_PARENT;
        let mut none: RawFd = -1;
        let (pid, must_move) = fork(plan, flags, &mut none);
        match pid {
            -1 => tell([0, Step::Start.failed(errno())]),
            0 => {
                enter_groups(plan, must_move);
                child(plan, pointers)
            }
            pid => tell([pid as u32, 0]),
        }
    }
}
