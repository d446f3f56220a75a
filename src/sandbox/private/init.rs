//! The init of a private task: builds what the blueprint says, then waits and reaps.
//!
//! It is forked from a process that may have threads, so it does raw system calls only, with what
//! was laid out before. Until somebody confirms that it is known (its record is on disk), it ends
//! when the other end of its socket is closed: an init that nobody knows of must not stay.
#![allow(unsafe_code)]

use std::{
    ffi::CStr,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    ptr,
    time::Duration,
};

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use thiserror::Error;

use super::{step::Step, steps::Blueprint};
use crate::sys::stat::ProcessStat;

/// What building may take: a mount that hangs (a dead server) must not hang the keeper.
const PATIENCE: Duration = Duration::from_secs(10);
/// What an init is called once it may stay.
const CONFIRMED: &CStr = c"dewar-init";

/// Says that all went well, where the number of the failed step would be.
const BUILT: u32 = u32::MAX;
/// Of an empty directory that hides another one.
const READ_ONLY_TMPFS: u64 = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
/// Says that the init could not even begin.
const UNBORN: u32 = u32::MAX - 1;

/// Why a private task cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// No process, or no namespaces.
    #[error("cannot make namespaces: {0}")]
    Namespaces(#[source] io::Error),
    /// One step failed; all that came before it is undone.
    #[error("cannot {step}: {source}")]
    Step {
        /// The step that failed, in words.
        step: String,
        /// What the system said.
        source: io::Error,
    },
    /// It died, or took too long.
    #[error("the init of the namespaces gives no answer: {0}")]
    Silence(#[source] io::Error),
}

/// The namespaces of a private task, held by their init.
#[derive(Debug)]
pub struct InitProcess {
    /// The init, as we see it.
    pub pid: i32,
    /// The init, to wait for and to signal.
    pub pidfd: OwnedFd,
    /// Unconfirmed as long as it is there.
    socket: Option<UnixStream>,
    namespaces: i32,
}

impl InitProcess {
    /// Builds. The init is a child of the calling process.
    ///
    /// # Errors
    /// See [`BuildError`]; nothing is left then.
    pub fn build(blueprint: &Blueprint) -> Result<InitProcess, BuildError> {
        let (ours, theirs) = UnixStream::pair().map_err(BuildError::Namespaces)?;
        let mut slots: Vec<RawFd> = vec![-1; blueprint.slots];
        let mut pidfd: RawFd = -1;
        let flags = libc::SIGCHLD | libc::CLONE_PIDFD | blueprint.namespaces;
        let arguments = own_arguments();
        // SAFETY: without CLONE_VM this is fork: the child gets a copy of everything, and runs only
        // `init`, which is async-signal-safe and never returns. The kernel writes the pidfd to
        // `pidfd`.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &mut pidfd, 0, 0) };
        match pid {
            -1 => return Err(BuildError::Namespaces(io::Error::last_os_error())),
            // SAFETY: in the child, with what was laid out before the fork.
            0 => unsafe {
                wipe_arguments(arguments);
                init(&blueprint.steps, &mut slots, theirs.as_raw_fd())
            },
            _ => {}
        }
        drop(theirs);
        // SAFETY: the kernel made this descriptor for us (close-on-exec).
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let init = InitProcess {
            pid: pid as i32,
            pidfd,
            socket: Some(ours),
            namespaces: blueprint.namespaces,
        };
        match init.answer(blueprint) {
            Ok(()) => Ok(init),
            Err(error) => {
                init.destroy();
                Err(error)
            }
        }
    }

    /// One that an earlier keeper built: `pidfd` is its init. `None` when that one was never told
    /// that it may stay: it is about to go, and nothing has run in it.
    pub fn adopt(pid: i32, pidfd: OwnedFd, namespaces: i32) -> Option<InitProcess> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        /// What an init may take that has to do one of two things and nothing else.
        const LOOKS: u32 = 200;
        const LOOK_MS: u16 = 10;
        let init = InitProcess {
            pid,
            pidfd,
            socket: None,
            namespaces,
        };
        // Its socket is closed by now: it has read that it may stay and says so by its name, or it
        // goes.
        for _ in 0..LOOKS {
            let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.trim_ascii_end() == CONFIRMED.to_bytes() {
                return Some(init);
            }
            if init.is_over() {
                return None;
            }
            let mut fds = [PollFd::new(init.pidfd.as_fd(), PollFlags::POLLIN)];
            if let Err(errno) = poll(&mut fds, PollTimeout::from(LOOK_MS)) {
                tracing::debug!("waiting for the init {pid}: {errno}");
            }
        }
        init.kill();
        None
    }

    fn answer(&self, blueprint: &Blueprint) -> Result<(), BuildError> {
        let Some(mut socket) = self.socket.as_ref() else {
            return Ok(());
        };
        let mut bytes = [0u8; 8];
        socket
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| socket.read_exact(&mut bytes))
            .map_err(BuildError::Silence)?;
        let number = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let source = io::Error::from_raw_os_error(number(4) as i32);
        match number(0) {
            BUILT => Ok(()),
            UNBORN => Err(BuildError::Namespaces(source)),
            index => Err(BuildError::Step {
                step: blueprint
                    .steps
                    .get(index as usize)
                    .map_or_else(|| "begin".to_owned(), Step::shown),
                source,
            }),
        }
    }

    /// What a process of the task enters.
    pub fn namespaces(&self) -> i32 {
        self.namespaces
    }

    /// Somebody will find the init whatever happens: it may stay without us.
    pub fn confirm(&mut self) {
        if let Some(mut socket) = self.socket.take()
            && let Err(error) = socket.write_all(&[1])
        {
            tracing::warn!("the init of a private task does not listen: {error}");
        }
    }

    /// Ends the init, and with it whatever is in its pid namespace.
    pub fn kill(&self) {
        match pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => tracing::warn!("cannot kill the init {}: {errno}", self.pid),
        }
    }

    /// True when the init is dead or dying: it waits for what is in its pid namespace to be reaped,
    /// and nobody can enter any more.
    pub fn is_over(&self) -> bool {
        let stat = ProcessStat::read(self.pid).ok().flatten();
        stat.and_then(|stat| stat.is_exiting()) != Some(false)
    }

    /// Ends it and waits for that; for one of our own in whose namespaces nothing lives.
    pub fn destroy(self) {
        self.kill();
        let id = || WaitId::PidFd(self.pidfd.as_fd());
        let waited = rustix::io::retry_on_intr(|| waitid(id(), WaitIdOptions::EXITED));
        if let Err(errno) = waited {
            tracing::debug!("waiting for the init {}: {errno}", self.pid);
        }
    }

    /// What `setns` takes.
    pub fn entry(&self) -> (BorrowedFd<'_>, i32) {
        (self.pidfd.as_fd(), self.namespaces)
    }
}

/// Where our command line is in memory: fields 48 and 49 of /proc/self/stat. Empty where that is
/// not told.
pub fn own_arguments() -> (usize, usize) {
    let stat = ProcessStat::own().ok().flatten();
    let field = |number| stat.as_ref().and_then(|stat| stat.field(number));
    let (begin, end): (usize, usize) = (field(48).unwrap_or(0), field(49).unwrap_or(0));
    match begin < end && end - begin < 1 << 21 {
        true => (begin, end),
        false => (0, 0),
    }
}

/// Overwrites a forked process' copy of the command line: it may have secrets, and whoever sees the
/// process can read it.
///
/// # Safety
/// In a forked child only, with what [`own_arguments`] said before the fork.
pub unsafe fn wipe_arguments((begin, end): (usize, usize)) {
    if begin > 0 {
        // SAFETY: the kernel put the arguments there, on our own stack, and nobody in this child
        // reads them.
        unsafe { ptr::write_bytes(begin as *mut u8, 0, end - begin) };
    }
}

/// # Safety
/// In the child only.
unsafe fn init(steps: &[Step], slots: &mut [RawFd], socket: RawFd) -> ! {
    let tell = |word: [u32; 2]| {
        // SAFETY: writes the eight bytes of `word`.
        unsafe { libc::write(socket, word.as_ptr().cast(), size_of_val(&word)) }
    };
    // SAFETY: raw system calls with what was laid out before the fork.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, ptr::null_mut());
        libc::prctl(libc::PR_SET_NAME, c"dewar-building".as_ptr());
        libc::setsid();
        for (index, step) in steps.iter().enumerate() {
            if let Err(errno) = take(step, slots) {
                tell([index as u32, errno as u32]);
                libc::_exit(1);
            }
        }
        // It holds nothing of its parent's: no journal, no log, no listening socket.
        if libc::dup2(socket, 3) == -1
            || libc::syscall(libc::SYS_close_range, 4, libc::c_uint::MAX, 0) != 0
        {
            tell([UNBORN, errno() as u32]);
            libc::_exit(1);
        }
        let word = [BUILT, 0];
        libc::write(3, word.as_ptr().cast(), size_of_val(&word));
        let mut byte = 0u8;
        let confirmed = loop {
            match libc::read(3, (&raw mut byte).cast(), 1) {
                -1 if errno() == libc::EINTR => {}
                count => break count == 1,
            }
        };
        if !confirmed {
            libc::_exit(0);
        }
        libc::prctl(libc::PR_SET_NAME, CONFIRMED.as_ptr());
        libc::close(3);
        reap_for_ever()
    }
}

/// # Safety
/// In the child only, with all signals blocked.
unsafe fn reap_for_ever() -> ! {
    // SAFETY: numbers, and memory on this stack.
    unsafe {
        let mut child: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut child);
        libc::sigaddset(&mut child, libc::SIGCHLD);
        loop {
            let none = ptr::null_mut::<libc::siginfo_t>();
            let flags = libc::WEXITED | libc::WNOHANG;
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let reaped = libc::syscall(libc::SYS_waitid, libc::P_ALL, 0, &raw mut info, flags, 0)
                == 0
                && info.si_signo != 0;
            if !reaped {
                // A child that dies between the two leaves its signal pending.
                libc::sigwaitinfo(&raw const child, none);
            }
        }
    }
}

/// Does one step.
///
/// # Safety
/// In the child only.
unsafe fn take(step: &Step, slots: &mut [RawFd]) -> Result<(), i32> {
    // SAFETY: every pointer is to a NUL-terminated string laid out before the fork, or to this
    // stack.
    unsafe {
        match step {
            Step::Write { path, text } => write_file(path, text),
            Step::Detach => done(libc::mount(
                ptr::null(),
                c"/".as_ptr(),
                ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                ptr::null(),
            )),
            Step::Take { slot, path, deep } => {
                slots[*slot] = copy_tree(path, *deep)?;
                Ok(())
            }
            Step::Restrict {
                slot,
                attributes,
                deep,
            } => restrict(slots[*slot], *attributes, *deep),
            Step::NewRoot { path } => {
                mount(
                    c"tmpfs",
                    path,
                    libc::MS_NOSUID | libc::MS_NODEV,
                    c"mode=755,size=1m",
                )?;
                done(libc::chdir(path.as_ptr()))
            }
            Step::Pivot => done_long(libc::syscall(
                libc::SYS_pivot_root,
                c".".as_ptr(),
                c".".as_ptr(),
            )),
            Step::Directory { path } => exists(libc::mkdir(path.as_ptr(), 0o755)),
            Step::File { path } => exists(libc::mknod(path.as_ptr(), libc::S_IFREG | 0o666, 0)),
            Step::Link { target, path } => exists(libc::symlink(target.as_ptr(), path.as_ptr())),
            Step::Put { slot, path } => put(slots[*slot], path),
            Step::Mount {
                kind,
                path,
                flags,
                options,
            } => mount(kind, path, *flags, options),
            Step::Forget => {
                done(libc::umount2(c".".as_ptr(), libc::MNT_DETACH))?;
                done(libc::chdir(c"/".as_ptr()))
            }
            Step::Seal => {
                let root = libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
                restrict(root, libc::MOUNT_ATTR_RDONLY, false)
            }
            Step::Hide { path } => {
                if !is_there(path) {
                    return Ok(());
                }
                put(copy_tree(c"/dev/null", false)?, path)
            }
            Step::Cover { path } => {
                if !is_there(path) {
                    return Ok(());
                }
                mount(c"tmpfs", path, READ_ONLY_TMPFS, c"mode=755,size=4k")
            }
            Step::Freeze { path } => {
                if !is_there(path) {
                    return Ok(());
                }
                let tree = copy_tree(path, true)?;
                restrict(tree, libc::MOUNT_ATTR_RDONLY, true)?;
                put(tree, path)
            }
        }
    }
}

/// Copies the mount at `path`, with those below it when `deep`, and opens the copy.
///
/// # Safety
/// In the child only.
unsafe fn copy_tree(path: &CStr, deep: bool) -> Result<RawFd, i32> {
    let deep = if deep { libc::AT_RECURSIVE } else { 0 };
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | deep as libc::c_uint;
    // SAFETY: the path ends with NUL.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    if tree == -1 {
        Err(errno())
    } else {
        Ok(tree as RawFd)
    }
}

/// True when there is something at `path`.
///
/// # Safety
/// In the child only.
unsafe fn is_there(path: &CStr) -> bool {
    // SAFETY: the path ends with NUL.
    unsafe { libc::access(path.as_ptr(), libc::F_OK) == 0 }
}

unsafe fn write_file(path: &CStr, text: &CStr) -> Result<(), i32> {
    let length = text.to_bytes().len();
    // SAFETY: NUL-terminated strings.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file == -1 || libc::write(file, text.as_ptr().cast(), length) != length as isize {
            return Err(errno());
        }
        libc::close(file);
    }
    Ok(())
}

unsafe fn mount(kind: &CStr, path: &CStr, flags: u64, options: &CStr) -> Result<(), i32> {
    // SAFETY: NUL-terminated strings.
    done(unsafe {
        libc::mount(
            kind.as_ptr(),
            path.as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    })
}

unsafe fn restrict(tree: RawFd, attributes: u64, deep: bool) -> Result<(), i32> {
    let deep = if deep { libc::AT_RECURSIVE } else { 0 };
    let attributes = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the kernel reads the structure, of the size that is given.
    done_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | deep,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
}

unsafe fn put(tree: RawFd, path: &CStr) -> Result<(), i32> {
    // SAFETY: NUL-terminated strings.
    done_long(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree,
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
}

fn done(result: libc::c_int) -> Result<(), i32> {
    if result == 0 { Ok(()) } else { Err(errno()) }
}

fn done_long(result: libc::c_long) -> Result<(), i32> {
    if result == 0 { Ok(()) } else { Err(errno()) }
}

/// What is there already is fine.
fn exists(result: libc::c_int) -> Result<(), i32> {
    match done(result) {
        Err(libc::EEXIST) => Ok(()),
        other => other,
    }
}

fn errno() -> i32 {
    // SAFETY: the calling thread's own errno.
    unsafe { *libc::__errno_location() }
}
