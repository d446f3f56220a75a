//! The root: forked off before anything else exists, it opens what is shared, starts the keeper,
//! and then only waits. When the keeper dies, the kernel gives the root all its processes; the
//! root then is the keeper.
#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, OFlag, open},
    sys::{
        stat::Mode,
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::{ForkResult, fork, setsid},
};

use super::{
    detach::{become_subreaper, detach, listen_at, prepare, raise_open_files, redirect_stdio},
    keeper::Keeper,
    output::{self, Holdings},
    shared::Shared,
};
use crate::{
    engine::ipc::{Go, GoError, Holder, JOURNAL, LIVE, Live, RunnerKind, SOCKET},
    journal::{self, Cover, Header},
    sys::process,
};

/// A root that waits for its [`Go`].
#[derive(Debug)]
pub struct ForkedRoot {
    /// Where it waits.
    pub socket: UnixStream,
    /// Which process it is.
    pub pid: u32,
}

/// Forks a root off a young process; it waits for its [`Go`] at the other end of the socket. Only
/// for a process with one thread, and best before it has touched much memory: root and keeper live
/// in a copy of it.
///
/// # Errors
/// What socketpair and fork say.
pub fn fork_root(runner: &'static RunnerKind) -> io::Result<ForkedRoot> {
    let (ours, theirs) = UnixStream::pair()?;
    // SAFETY: the caller promises one thread, so the child may run any code.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(ours);
            #[expect(clippy::exit, reason = "a forked child ends here")]
            std::process::exit(i32::from(root_main(theirs, runner)));
        }
        ForkResult::Parent { child } => Ok(ForkedRoot {
            socket: ours,
            pid: child.as_raw() as u32,
        }),
    }
}

/// The life of a root, from its fork (or exec) to its end. `client` is where [`Go`] comes from.
/// Returns the exit code.
pub fn root_main(client: UnixStream, runner: &'static RunnerKind) -> u8 {
    if let Err(errno) = detach(&client) {
        GoError::failed(format!("cannot detach: {errno}")).send(&client);
        return 70;
    }
    let go = match Go::receive(&client) {
        Ok(Some(go)) => go,
        // The client found a mistake, or was killed: nothing has begun.
        Ok(None) => return 0,
        Err(error) => {
            GoError::failed(format!("unreadable order: {error}")).send(&client);
            return 70;
        }
    };
    match begin(&go, runner, false) {
        Ok(shared) => supervise(shared, go.header, Some(client)),
        Err(refusal) => {
            refusal.send(&client);
            0
        }
    }
}

/// Becomes the root of a Mesos executor: this process is its container's first, so it stays in its
/// session and keeps its output. `go` begins a new group. Only for a process with one thread.
///
/// # Errors
/// Why it cannot begin.
pub fn become_root(go: Go, runner: &'static RunnerKind) -> Result<u8, String> {
    let unable = |errno: Errno| format!("cannot prepare: {}", errno.desc());
    prepare("dewar-root", None).map_err(unable)?;
    let shared = begin(&go, runner, true).map_err(|refusal| refusal.message)?;
    Ok(supervise(shared, go.header, None))
}

/// Opens everything that root and keeper share.
fn begin(go: &Go, runner: &'static RunnerKind, keeps_output: bool) -> Result<Shared, GoError> {
    let path = &go.directory;
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        GoError::failed(format!("cannot {what} in {path}: {error}"))
    };
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory =
        open(path.as_str(), flags, Mode::empty()).map_err(|errno| failed("work", &errno.desc()))?;
    let busy = || GoError {
        busy: true,
        message: "somebody else looks after this task".to_owned(),
    };
    // The journal itself may be replaced by its compaction; this file never is.
    let lock = journal::open_locked(&directory, LIVE)
        .map_err(|error| failed("open live", &error))?
        .ok_or_else(busy)?;
    if go.header.is_some() && has_begun(&directory, path) {
        // Somebody was faster, and may be done already.
        return Err(busy());
    }
    if !keeps_output {
        redirect_stdio(&directory).map_err(|error| failed("open engine.log", &error))?;
    }
    crate::sys::trace::start();
    // Opened once more: whoever has a copy of the mapping must not hold the lock with it.
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let live = nix::fcntl::openat(&directory, LIVE, flags, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|file| Live::map(&File::from(file)))
        .map_err(|error| failed("map live", &error))?;
    let listener =
        listen_at(&directory, SOCKET).map_err(|error| failed("listen at socket", &error))?;
    Ok(Shared {
        directory,
        _lock: held(lock).map_err(|error| failed("hold live", &error))?,
        listener,
        live,
        executable: go.executable.clone(),
        path: path.clone(),
        runner,
        open_files: raise_open_files().map_err(|error| failed("raise a limit", &error))?,
        vault: None,
        pipes: HashMap::new(),
    })
}

/// With a hard limit below this one the soft one is left as it is.
pub(super) const MODEST: u64 = 64;

/// The lock in another descriptor's keeping: it is let go when the last copy in root and keeper is closed,
/// and not when one of them drops its own.
pub(super) fn held(lock: Flock<OwnedFd>) -> io::Result<OwnedFd> {
    let copy = lock.try_clone()?;
    std::mem::forget(lock);
    Ok(copy)
}

/// There is a task's record in the journal already.
fn has_begun(directory: &OwnedFd, path: &str) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let Ok(file) = nix::fcntl::openat(directory, JOURNAL, flags, Mode::empty()) else {
        return false;
    };
    let path = format!("{path}/{JOURNAL}");
    let own = nix::unistd::geteuid().as_raw();
    // One that cannot be read is somebody's record too.
    !matches!(
        journal::read_file(&File::from(file), path.as_ref(), own),
        Ok(None)
    )
}

fn supervise(mut shared: Shared, header: Option<Header>, client: Option<UnixStream>) -> u8 {
    crate::sys::memory::one_heap();
    let me = std::process::id();
    let is_new = header.is_some();
    if is_new {
        shared.live.clear();
    }
    let ticks = process::stat(me as i32).map_or(0, |stat| stat.start_ticks);
    shared.live.set_holder(Holder::Root, me, ticks);
    let holdings = match output::vault() {
        Ok((vault, holdings)) => {
            shared.vault = Some(Arc::new(vault));
            Some(holdings)
        }
        Err(error) => {
            tracing::warn!("pipes are held by the keeper alone: {error}");
            None
        }
    };
    // SAFETY: the root has one thread, so the child may run any code.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            drop(holdings);
            let code = match keep(shared, header, client) {
                Ok(()) => 0,
                Err(message) => {
                    tracing::error!("{message}");
                    70
                }
            };
            #[expect(clippy::exit, reason = "a forked child ends here")]
            std::process::exit(code);
        }
        Ok(ForkResult::Parent { child }) => {
            drop((client, header));
            shared.vault = None;
            let (is_over, holdings) = waits_for(child, holdings);
            if is_over {
                return 0;
            }
            shared.pipes = holdings.map_or_else(HashMap::new, Holdings::into_pipes);
            tracing::warn!("the keeper (pid {child}) died; the root takes its place");
            match Keeper::take_over(shared, None, Cover::Used).and_then(Keeper::run) {
                Ok(()) => 0,
                Err(message) => {
                    tracing::error!("{message}");
                    70
                }
            }
        }
        Err(errno) => {
            let refusal = GoError::failed(format!("cannot fork: {}", errno.desc()));
            tracing::error!("{}", refusal.message);
            if let Some(client) = client {
                refusal.send(&client);
            }
            70
        }
    }
}

fn keep(shared: Shared, header: Option<Header>, client: Option<UnixStream>) -> Result<(), String> {
    setsid().map_err(|errno| format!("setsid: {errno}"))?;
    become_subreaper("dewar-keeper").map_err(|errno| format!("prctl: {errno}"))?;
    let keeper = match header {
        Some(header) => Keeper::begin(shared, header, client),
        None => Keeper::take_over(shared, client, Cover::Whole),
    }?;
    keeper.run()
}

/// Waits for the keeper and holds what it hands over; true when it left because the task is over. What
/// memory a busy time took is given back once the keeper has had time to start, or to end: there are
/// better uses of the processor at that moment.
fn waits_for(keeper: nix::unistd::Pid, mut holdings: Option<Holdings>) -> (bool, Option<Holdings>) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::os::fd::AsFd;
    const SETTLE_MS: u16 = 100;
    let pidfd = Pid::from_raw(keeper.as_raw()).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let mut is_restless = true;
    while let Some(Ok(pidfd)) = &pidfd {
        let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        if let Some(holdings) = &holdings {
            fds.push(PollFd::new(holdings.as_fd(), PollFlags::POLLIN));
        }
        let timeout = match is_restless {
            true => PollTimeout::from(SETTLE_MS),
            false => PollTimeout::NONE,
        };
        match poll(&mut fds, timeout) {
            Ok(0) => {
                crate::sys::memory::trim_code();
                is_restless = false;
            }
            Ok(_) if fds[0].any() == Some(true) => break,
            Ok(_) => {
                is_restless = true;
                let is_open = holdings.as_mut().is_some_and(Holdings::receive);
                if !is_open {
                    // The keeper is dying; what it handed over stays.
                    let code = wait(keeper);
                    return (code, holdings);
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => {
                tracing::error!("cannot wait for the keeper: {errno}");
                break;
            }
        }
    }
    (wait(keeper), holdings)
}

/// True when the keeper has ended well.
fn wait(keeper: nix::unistd::Pid) -> bool {
    loop {
        match waitid(Id::Pid(keeper), WaitPidFlag::WEXITED) {
            Ok(WaitStatus::Exited(_, code)) => return code == 0,
            Ok(_) => return false,
            Err(Errno::EINTR) => {}
            Err(errno) => {
                tracing::error!("cannot wait for the keeper: {errno}");
                return false;
            }
        }
    }
}

impl GoError {
    fn failed(message: String) -> GoError {
        GoError {
            busy: false,
            message,
        }
    }
}
