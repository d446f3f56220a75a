//! How a process of ours leaves its terminal: session, descriptors, signals.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::{
        signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction},
        socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket},
        stat::{Mode, umask},
    },
    unistd::{UnlinkatFlags, dup2_stderr, dup2_stdin, dup2_stdout, setsid, unlinkat},
};

use super::shared::IGNORED;
use crate::{engine::ipc::ENGINE_LOG, sys::process};

/// With a hard limit below this one the soft one is left as it is.
const MODEST: u64 = 64;

/// A session of our own, no terminal, and children that come to us when their parents die.
pub(super) fn detach(client: &UnixStream) -> nix::Result<()> {
    // Fails only for a process group leader, that is, when we were exec'ed as one: then the
    // session is our own already.
    match setsid() {
        Ok(_) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    prepare("dewar-root", Some(client))?;
    nix::unistd::chdir("/")
}

/// Children come to us when their parents die; nothing of the caller is kept but `client`: no lock
/// that it thinks released, no signal that it ignored.
pub(super) fn prepare(name: &str, client: Option<&UnixStream>) -> nix::Result<()> {
    become_subreaper(name)?;
    close_all_but(client.map(AsRawFd::as_raw_fd));
    default_dispositions();
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in IGNORED {
        // SAFETY: no handler is installed.
        unsafe { sigaction(signal, &ignore) }?;
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Closes every descriptor above standard error except `kept`.
fn close_all_but(kept: Option<i32>) {
    let kept = kept.map_or(2, |kept| kept as libc::c_uint);
    let ranges = [(3, kept - 1), (kept + 1, libc::c_uint::MAX)];
    for (first, last) in ranges.into_iter().filter(|(first, last)| first <= last) {
        // SAFETY: a root that was just forked or exec'ed owns no other descriptor yet.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// What the caller ignored (as nohup does, or a runtime) must not reach the user's programs. By
/// the raw call, because the C library hides the signals that it uses itself.
fn default_dispositions() {
    /// The kernel's `struct sigaction` is four words; all zero is SIG_DFL.
    const DEFAULT: [usize; 4] = [0; 4];
    const LAST: i32 = 64;
    for signal in 1..=LAST {
        // SAFETY: no handler is installed; SIGKILL and SIGSTOP are refused, which is fine.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                std::ptr::null_mut::<libc::c_void>(),
                8,
            );
        }
    }
}

pub(super) fn become_subreaper(name: &str) -> nix::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    let name = std::ffi::CString::new(name).map_err(|_| Errno::EINVAL)?;
    nix::sys::prctl::set_name(&name)
}

pub(super) fn redirect_stdio(directory: &OwnedFd) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o600);
    let log = nix::fcntl::openat(directory, ENGINE_LOG, flags, mode)?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&log)?;
    Ok(())
}

/// The path of a socket may be longer than a socket address: it is bound through the directory's
/// descriptor.
pub(super) fn listen_at(directory: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = bind(listener.as_raw_fd(), &UnixAddr::new(path.as_str())?);
    umask(before);
    bound?;
    listen(&listener, Backlog::new(64)?)?;
    Ok(listener)
}

/// We hold descriptors of every process, and keep some back; returns what the limits were.
pub(super) fn raise_open_files() -> nix::Result<(u64, u64)> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = hard.saturating_sub(process::RESERVE);
    if soft != most && most > soft.min(MODEST) {
        setrlimit(Resource::RLIMIT_NOFILE, most, hard)?;
    }
    Ok((soft, hard))
}
