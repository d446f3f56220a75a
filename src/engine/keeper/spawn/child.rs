//! The child between fork and exec: raw system calls only, no allocation, no lock.
//!
//! The keeper has threads, so after fork only async-signal-safe calls are allowed. Everything the
//! child needs is laid out in [`ChildPlan`] before. Its life: its cgroup, own session, its
//! descriptors and nothing else, clean signals, limits, identity, directory, fewer rights; then it
//! blocks at its gate.
//!
//! A child of a private task is forked twice: the first one enters the task's namespaces and has
//! the keeper's second child (CLONE_PARENT), because a process never changes its own pid
//! namespace.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use super::{confine::Confinement, steps::Step};
use crate::engine::ipc::Pass;

/// The kernel's flag, wider than the C library's type for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// Where the child finds its gate.
const GATE_FD: RawFd = 3;
/// The exit code of a child that never became the user's program, for those that look from outside.
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
    /// By the kernel's numbers.
    pub rlimits: Vec<(u32, libc::rlimit)>,
    pub nice: Option<i32>,
    /// What is written to the file of that name.
    pub oom_score_adj: Option<CString>,
    /// `cgroup.procs` of the groups that it enters.
    pub doors: Vec<RawFd>,
    /// The directory of a group of cgroup v2 that it is born in.
    pub birth: Option<RawFd>,
    /// The init of its task's namespaces, and which of them it enters.
    pub entry: Option<(BorrowedFd<'a>, i32)>,
    pub confinement: Option<Confinement<'a>>,
    /// Where our own command line is in memory; it is nothing for a private task to read.
    pub arguments: (usize, usize),
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
pub(crate) struct Gated {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// Pointers into a plan, as exec wants them.
pub(super) struct Pointers {
    pub(super) argv: Vec<*const libc::c_char>,
    pub(super) environment: Vec<*const libc::c_char>,
}

/// Forks. Born in its group of cgroup v2, a child need not move there, which may take a while (a
/// kernel before 5.7, or a filter of system calls, makes it move: then true in the child's
/// answer).
///
/// # Safety
/// As fork: the child of a process with threads may do async-signal-safe things only.
pub(super) unsafe fn fork(
    plan: &ChildPlan<'_>,
    flags: libc::c_int,
    pidfd: &mut RawFd,
) -> (libc::c_long, bool) {
    if let Some(group) = plan.birth {
        // SAFETY: all zero is a valid value of this structure of numbers.
        let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
        arguments.flags = (flags as u64 & !(libc::SIGCHLD as u64)) | CLONE_INTO_CGROUP;
        arguments.pidfd = ptr::from_mut(pidfd) as u64;
        // With CLONE_PARENT it is the parent's own.
        if flags & libc::CLONE_PARENT == 0 {
            arguments.exit_signal = libc::SIGCHLD as u64;
        }
        arguments.cgroup = group as u64;
        // SAFETY: the kernel reads the structure, of the size that is given, and writes the pidfd.
        let pid = unsafe {
            libc::syscall(
                libc::SYS_clone3,
                &raw const arguments,
                size_of_val(&arguments),
            )
        };
        // Only a kernel (or a filter) that does not know how is asked in another way.
        let is_unknown = matches!(
            errno(),
            libc::ENOSYS | libc::E2BIG | libc::EINVAL | libc::EPERM
        );
        if pid >= 0 || !is_unknown {
            return (pid, false);
        }
    }
    // SAFETY: the kernel writes the pidfd to `pidfd` when CLONE_PIDFD says so.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, ptr::from_mut(pidfd), 0, 0) };
    (pid, plan.birth.is_some())
}

pub(super) fn fork_plainly(plan: &ChildPlan<'_>, pointers: &Pointers) -> io::Result<Gated> {
    let mut pidfd: RawFd = -1;
    let flags = libc::SIGCHLD | libc::CLONE_PIDFD;
    // SAFETY: without CLONE_VM this is fork: the child gets a copy of everything, and runs only
    // `child`, which is async-signal-safe and never returns.
    let (pid, must_move) = unsafe { fork(plan, flags, &mut pidfd) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: in the child, with a plan that was laid out before the fork.
            unsafe {
                enter_groups(plan, must_move);
                if let Some(error) = adjust(plan) {
                    report(plan, error);
                    libc::_exit(EXIT_NOT_LAUNCHED)
                }
            }
            child(plan, pointers)
        }
        pid => Ok(Gated {
            pid: pid as i32,
            // SAFETY: the kernel made this descriptor for us (close-on-exec).
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Enters the groups that it was not born in; failing that, this was the child's life. Not the
/// keeper's wait: a group whose time is used up may take its time.
///
/// # Safety
/// In the child only.
pub(super) unsafe fn enter_groups(plan: &ChildPlan<'_>, must_move: bool) {
    if must_move && let Some(group) = plan.birth {
        let flags = libc::O_WRONLY | libc::O_CLOEXEC;
        // SAFETY: a constant path below a descriptor, and one byte of a constant.
        unsafe {
            let door = libc::openat(group, c"cgroup.procs".as_ptr(), flags);
            if libc::write(door, c"0".as_ptr().cast(), 1) != 1 {
                give_up(plan, Step::Cgroup);
            }
        }
    }
    for door in &plan.doors {
        // SAFETY: one byte of a constant.
        unsafe {
            if libc::write(*door, c"0".as_ptr().cast(), 1) != 1 {
                give_up(plan, Step::Cgroup);
            }
        }
    }
}

/// What is done with the keeper's own view of the machine. The error, if there is one.
///
/// # Safety
/// In the child only.
pub(super) unsafe fn adjust(plan: &ChildPlan<'_>) -> Option<u32> {
    // SAFETY: raw system calls with what was laid out before the fork.
    unsafe {
        if let Some(adj) = &plan.oom_score_adj {
            let file = libc::open(
                c"/proc/self/oom_score_adj".as_ptr(),
                libc::O_WRONLY | libc::O_CLOEXEC,
            );
            let length = adj.as_bytes().len();
            if file == -1 || libc::write(file, adj.as_ptr().cast(), length) != length as isize {
                return Some(Step::OomScoreAdj.failed(errno()));
            }
        }
    }
    None
}

pub(super) fn child(plan: &ChildPlan<'_>, pointers: &Pointers) -> ! {
    // SAFETY: raw system calls with pointers into memory that was laid out before the fork.
    unsafe {
        // Until exec it has the keeper's memory and the machine's view: no process may look into
        // it.
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        if plan.entry.is_some() {
            crate::sandbox::private::wipe_arguments(plan.arguments);
        }
        libc::setsid();
        // What it was given stays open until it is needed.
        let ruleset = arrange_descriptors(plan);
        for signal in plan.ignored_signals {
            libc::signal(*signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        libc::umask(plan.umask);
        if libc::setrlimit(libc::RLIMIT_NOFILE, &plan.open_files) != 0 {
            give_up(plan, Step::OpenFiles);
        }
        for (resource, limit) in &plan.rlimits {
            let none = ptr::null_mut::<libc::rlimit>();
            if libc::syscall(libc::SYS_prlimit64, 0, *resource, limit, none) != 0 {
                give_up(plan, Step::Limits);
            }
        }
        if let Some(nice) = plan.nice
            && libc::setpriority(libc::PRIO_PROCESS, 0, nice) != 0
        {
            give_up(plan, Step::Priority);
        }
        if let Some(confinement) = &plan.confinement
            && !confinement.bound_capabilities()
        {
            give_up(plan, Step::Capabilities);
        }
        take_identity(plan);
        if libc::chdir(plan.directory.as_ptr()) != 0 {
            give_up(plan, Step::Directory);
        }
        if let Some(confinement) = &plan.confinement
            && let Err(step) = confinement.enforce(ruleset)
        {
            give_up(plan, step);
        }
        if !gate_opens() || !plan.pass.go_through() {
            libc::_exit(EXIT_NOT_LAUNCHED);
        }
        exec(plan, pointers)
    }
}

/// Returns where the ruleset is now.
///
/// # Safety
/// In the child only.
unsafe fn arrange_descriptors(plan: &ChildPlan<'_>) -> RawFd {
    // SAFETY: the keeper keeps 0 to 2 on /dev/null, so no source is overwritten before its turn,
    // except one that is already where another goes: that is moved out of the way first.
    unsafe {
        /// Where the ruleset goes: behind the gate.
        const RULESET_FD: RawFd = GATE_FD + 1;
        let above = |fd: RawFd| match fd {
            GATE_FD | RULESET_FD => libc::fcntl(fd, libc::F_DUPFD, 10),
            fd => fd,
        };
        let (stdin, stdout, stderr) = (above(plan.stdin), above(plan.stdout), above(plan.stderr));
        let ruleset = plan.confinement.as_ref().and_then(Confinement::ruleset);
        let ruleset = ruleset.map(above);
        let gate = match plan.gate {
            RULESET_FD => above(plan.gate),
            gate => gate,
        };
        let moved = match gate {
            GATE_FD => libc::fcntl(GATE_FD, libc::F_SETFD, libc::FD_CLOEXEC),
            gate => libc::dup3(gate, GATE_FD, libc::O_CLOEXEC),
        };
        let last = match ruleset {
            Some(ruleset) => libc::dup3(ruleset, RULESET_FD, libc::O_CLOEXEC),
            None => GATE_FD,
        };
        let arranged = moved != -1
            && last != -1
            && libc::dup2(stdin, 0) != -1
            && libc::dup2(stdout, 1) != -1
            && libc::dup2(stderr, 2) != -1
            && libc::syscall(libc::SYS_close_range, last + 1, libc::c_uint::MAX, 0) == 0;
        if !arranged {
            give_up(plan, Step::Descriptors);
        }
        last
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
            give_up(plan, Step::Groups);
        }
        if libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) != 0 {
            give_up(plan, Step::Group);
        }
        if libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) != 0 {
            give_up(plan, Step::User);
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
unsafe fn exec(plan: &ChildPlan<'_>, pointers: &Pointers) -> ! {
    let (argv, environment) = (pointers.argv.as_ptr(), pointers.environment.as_ptr());
    let mut error = libc::ENOENT;
    for program in &plan.programs {
        // SAFETY: all three point to NUL-terminated data laid out before the fork.
        unsafe { libc::execve(program.as_ptr(), argv, environment) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            other => error = other,
        }
    }
    report(plan, Step::Exec.failed(error));
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
unsafe fn give_up(plan: &ChildPlan<'_>, step: Step) -> ! {
    report(plan, step.failed(errno()));
    // SAFETY: ends this process and nothing else.
    unsafe { libc::_exit(EXIT_NOT_LAUNCHED) }
}

/// The slot tells the keeper, which may be another one by the time this process is looked at.
fn report(plan: &ChildPlan<'_>, error: u32) {
    plan.pass.fail(error);
}

pub(super) fn errno() -> i32 {
    // SAFETY: the calling thread's own errno.
    unsafe { *libc::__errno_location() }
}
