//! The child between fork and exec: raw system calls only, no allocation, no lock.
//!
//! The keeper has threads, so after fork only async-signal-safe calls are allowed. Everything the
//! child needs is laid out in [`Plan`](ChildPlan) before. Its life: own session, its descriptors
//! and nothing else, clean signals, limits, identity, directory; then it blocks at its gate.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    ptr,
};

use super::live::Pass;

/// The step that failed, in the upper half of a launch error; errno is in the lower.
pub(super) const STEPS: [&str; 7] = [
    "start",
    "arrange its descriptors",
    "set the limits of open files",
    "set the groups",
    "set the group",
    "set the user",
    "enter the working directory",
];
/// The last step.
pub(super) const STEP_EXEC: u32 = 7;

/// Where the child finds its gate.
const GATE_FD: RawFd = 3;
/// The exit code of a child that never became the user's program, for whoever looks from outside.
const EXIT_NOT_LAUNCHED: i32 = 125;

/// All that a child needs, laid out before the fork.
pub(super) struct ChildPlan<'a> {
    /// Tried one after the other, as a shell does with PATH.
    pub programs: Vec<CString>,
    pub argv: Vec<CString>,
    pub environment: Vec<CString>,
    pub directory: CString,
    pub identity: Option<(u32, u32, Vec<u32>)>,
    pub umask: u32,
    pub open_files: libc::rlimit,
    /// Signals that the keeper ignores and the user's program must not.
    pub ignored_signals: &'a [i32],
    pub stdin: RawFd,
    pub stdout: RawFd,
    pub stderr: RawFd,
    /// The child's end of the gate: reads one byte or the end, writes a failure.
    pub gate: RawFd,
    pub pass: Pass<'a>,
}

/// A child behind its gate.
#[derive(Debug)]
pub(super) struct Gated {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// Forks a child that does what `plan` says and waits at its gate.
///
/// # Errors
/// What clone says: EAGAIN, ENOMEM, EMFILE.
pub(super) fn fork_gated(plan: &ChildPlan<'_>) -> io::Result<Gated> {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        let each = strings.iter().map(|string| string.as_ptr());
        each.chain([ptr::null()]).collect()
    };
    let argv = pointers(&plan.argv);
    let environment = pointers(&plan.environment);
    let mut pidfd: RawFd = -1;
    let flags = libc::SIGCHLD | libc::CLONE_PIDFD;
    // SAFETY: without CLONE_VM this is fork: the child gets a copy of everything, and runs only
    // `child`, which is async-signal-safe and never returns. The kernel writes the pidfd to `pidfd`.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &mut pidfd, 0, 0) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => child(plan, &argv, &environment),
        pid => Ok(Gated {
            pid: pid as i32,
            // SAFETY: the kernel made this descriptor for us (close-on-exec).
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

fn child(
    plan: &ChildPlan<'_>,
    argv: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> ! {
    // SAFETY: raw system calls with pointers into memory that was laid out before the fork.
    unsafe {
        libc::setsid();
        arrange_descriptors(plan);
        for signal in plan.ignored_signals {
            libc::signal(*signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        libc::umask(plan.umask);
        if libc::setrlimit(libc::RLIMIT_NOFILE, &plan.open_files) != 0 {
            give_up(plan, 2);
        }
        take_identity(plan);
        if libc::chdir(plan.directory.as_ptr()) != 0 {
            give_up(plan, 6);
        }
        if !gate_opens() || !plan.pass.go_through() {
            libc::_exit(EXIT_NOT_LAUNCHED);
        }
        exec(plan, argv, environment)
    }
}

/// # Safety
/// In the child only.
unsafe fn arrange_descriptors(plan: &ChildPlan<'_>) {
    // SAFETY: the keeper keeps 0 to 2 on /dev/null, so no source is overwritten before its turn,
    // except one that is already on GATE_FD: that is moved out of the way first.
    unsafe {
        let above = |fd: RawFd| match fd {
            GATE_FD => libc::fcntl(fd, libc::F_DUPFD, 10),
            fd => fd,
        };
        let (stdin, stdout, stderr) = (above(plan.stdin), above(plan.stdout), above(plan.stderr));
        let moved = match plan.gate {
            GATE_FD => libc::fcntl(GATE_FD, libc::F_SETFD, libc::FD_CLOEXEC),
            gate => libc::dup3(gate, GATE_FD, libc::O_CLOEXEC),
        };
        let arranged = moved != -1
            && libc::dup2(stdin, 0) != -1
            && libc::dup2(stdout, 1) != -1
            && libc::dup2(stderr, 2) != -1
            && libc::syscall(libc::SYS_close_range, GATE_FD + 1, libc::c_uint::MAX, 0) == 0;
        if !arranged {
            give_up(plan, 1);
        }
    }
}

/// # Safety
/// In the child only.
unsafe fn take_identity(plan: &ChildPlan<'_>) {
    let Some((uid, gid, groups)) = &plan.identity else {
        return;
    };
    // SAFETY: the raw calls concern this (only) thread; glibc's wrappers would look for others.
    unsafe {
        if libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) != 0 {
            give_up(plan, 3);
        }
        if libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) != 0 {
            give_up(plan, 4);
        }
        if libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) != 0 {
            give_up(plan, 5);
        }
    }
}

/// Blocks until the keeper opens the gate (true) or is gone (false).
///
/// # Safety
/// In the child only.
unsafe fn gate_opens() -> bool {
    let mut byte = 0u8;
    loop {
        // SAFETY: reads at most the one byte that `byte` holds.
        match unsafe { libc::read(GATE_FD, (&raw mut byte).cast(), 1) } {
            1 => return true,
            -1 if errno() == libc::EINTR => {}
            _ => return false,
        }
    }
}

/// # Safety
/// In the child only.
unsafe fn exec(
    plan: &ChildPlan<'_>,
    argv: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> ! {
    let mut error = libc::ENOENT;
    for program in &plan.programs {
        // SAFETY: all three point to NUL-terminated data laid out before the fork.
        unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), environment.as_ptr()) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            other => error = other,
        }
    }
    report(plan, STEP_EXEC << 16 | error as u32);
    let code = match error {
        libc::ENOENT => 127,
        libc::EACCES => 126,
        _ => EXIT_NOT_LAUNCHED,
    };
    // SAFETY: ends this process and nothing else.
    unsafe { libc::_exit(code) }
}

/// # Safety
/// In the child only.
unsafe fn give_up(plan: &ChildPlan<'_>, step: u32) -> ! {
    report(plan, step << 16 | errno() as u32);
    // SAFETY: ends this process and nothing else.
    unsafe { libc::_exit(EXIT_NOT_LAUNCHED) }
}

/// The slot tells whoever is the keeper by the time this process is looked at.
fn report(plan: &ChildPlan<'_>, error: u32) {
    plan.pass.fail(error);
}

fn errno() -> i32 {
    // SAFETY: the calling thread's own errno.
    unsafe { *libc::__errno_location() }
}
