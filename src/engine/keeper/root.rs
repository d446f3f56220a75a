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
    error::KeeperError,
    keeper::Keeper,
    output::{self, FdStore},
    shared::Shared,
};
use crate::{
    engine::ipc::{
        Holder, JOURNAL, RunnerKind, SOCKET, SharedState, StartError, StartRequest, live_file,
        refuse_older_roots,
    },
    journal::{self, Cover, Header, JournalError, Replay},
    sys::{
        clock::now,
        memory::trim_code,
        process,
        restless::{Restless, SETTLE_US},
    },
};

/// A root that waits for its [`StartRequest`].
#[derive(Debug)]
pub struct ForkedRoot {
    /// The other end of the socket at which it waits.
    pub socket: UnixStream,
    /// The root's process id.
    pub pid: u32,
}

/// Forks a root off a young process; it waits for its [`StartRequest`] at the other end of the
/// socket. Only for a process with one thread, and best before it has touched much memory: root
/// and keeper live in a copy of it.
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

/// The life of a root, from its fork (or exec) to its end. `client` is where [`StartRequest`]
/// comes from. Returns the exit code.
pub fn root_main(client: UnixStream, runner: &'static RunnerKind) -> u8 {
    if let Err(errno) = detach(&client) {
        StartError::failed(format!("cannot detach: {errno}")).send(&client);
        return 70;
    }
    let request = match StartRequest::receive(&client) {
        Ok(Some(request)) => request,
        // The client found a mistake, or was killed: nothing has begun.
        Ok(None) => return 0,
        Err(error) => {
            StartError::failed(format!("unreadable order: {error}")).send(&client);
            return 70;
        }
    };
    match begin(&request, runner, false) {
        Ok(shared) => supervise(shared, request.header, Some(client)),
        Err(refusal) => {
            refusal.send(&client);
            0
        }
    }
}

/// Becomes the root of a Mesos executor: this process is its container's first, so it stays in its
/// session and keeps its output. `request` begins a new group. Only for a process with one thread.
///
/// # Errors
/// Why it cannot begin.
pub fn become_root(request: StartRequest, runner: &'static RunnerKind) -> Result<u8, KeeperError> {
    prepare("dewar-root", None).map_err(KeeperError::Prepare)?;
    let shared = begin(&request, runner, true).map_err(KeeperError::Refused)?;
    Ok(supervise(shared, request.header, None))
}

/// Opens everything that root and keeper share.
fn begin(
    request: &StartRequest,
    runner: &'static RunnerKind,
    keeps_output: bool,
) -> Result<Shared, StartError> {
    let path = &request.directory;
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        StartError::failed(format!("cannot {what} in {path}: {error}"))
    };
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory =
        open(path.as_str(), flags, Mode::empty()).map_err(|errno| failed("work", &errno.desc()))?;
    let busy = || StartError {
        busy: true,
        message: "another process looks after this task".to_owned(),
    };
    // The journal itself may be replaced by its compaction; this file never is.
    let lock = journal::open_locked(&directory, live_file(&directory))
        .map_err(|error| failed("open live", &error))?
        .ok_or_else(busy)?;
    match &request.header {
        // Another client was faster, and its task may be over already.
        Some(_) if has_begun(&directory, path) => return Err(busy()),
        Some(header) if !header.needs.is_empty() => {
            refuse_older_roots(&directory).map_err(|error| failed("link live", &error))?;
        }
        Some(_) => {}
        None => check_version(&directory, path)?,
    }
    if !keeps_output {
        redirect_stdio(&directory).map_err(|error| failed("open engine.log", &error))?;
    }
    crate::sys::trace::start();
    // Opened once more: a process with a copy of the mapping must not hold the lock with it.
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let live = nix::fcntl::openat(&directory, live_file(&directory), flags, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|file| SharedState::map(&File::from(file)))
        .map_err(|error| failed("map live", &error))?;
    let listener =
        listen_at(&directory, SOCKET).map_err(|error| failed("listen at socket", &error))?;
    Ok(Shared {
        directory,
        _lock: held(lock).map_err(|error| failed("hold live", &error))?,
        listener,
        live,
        executable: request.executable.clone(),
        path: path.clone(),
        runner,
        open_files: raise_open_files().map_err(|error| failed("raise a limit", &error))?,
        fd_sender: None,
        pipes: HashMap::new(),
    })
}

/// The lock in a descriptor of its own: it is let go when the last copy in root and keeper is
/// closed, and not when one of them drops its own.
pub(super) fn held(lock: Flock<OwnedFd>) -> io::Result<OwnedFd> {
    let copy = lock.try_clone()?;
    std::mem::forget(lock);
    Ok(copy)
}

/// What is in the journal; `None` when there is no such file.
fn read_journal(directory: &OwnedFd, path: &str) -> Option<Result<Option<Replay>, JournalError>> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let file = nix::fcntl::openat(directory, JOURNAL, flags, Mode::empty()).ok()?;
    let path = format!("{path}/{JOURNAL}");
    let own = nix::unistd::geteuid().as_raw();
    Some(journal::read_file(&File::from(file), path.as_ref(), own))
}

/// There is a task's record in the journal already.
fn has_begun(directory: &OwnedFd, path: &str) -> bool {
    // A journal that cannot be read is the record of a task, too.
    !matches!(read_journal(directory, path), None | Some(Ok(None)))
}

/// A task that a later version began is not taken up when this one would drop a part of what it is
/// held to. Nothing of it is touched. Any other fault of its journal is its keeper's to find.
fn check_version(directory: &OwnedFd, path: &str) -> Result<(), StartError> {
    match read_journal(directory, path) {
        Some(Ok(Some(replay))) => journal::check_understood(&replay.header, &replay.records)
            .map_err(|beyond| StartError::failed(beyond.to_string())),
        Some(Err(later @ JournalError::Later { .. })) => Err(StartError::failed(later.to_string())),
        None | Some(Ok(None) | Err(_)) => Ok(()),
    }
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
    let fd_store = match output::fd_store() {
        Ok((fd_sender, fd_store)) => {
            shared.fd_sender = Some(Arc::new(fd_sender));
            Some(fd_store)
        }
        Err(error) => {
            tracing::warn!("pipes are held by the keeper alone: {error}");
            None
        }
    };
    // SAFETY: the root has one thread, so the child may run any code.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            drop(fd_store);
            let code = exit_code(&keep(shared, header, client));
            #[expect(clippy::exit, reason = "a forked child ends here")]
            std::process::exit(i32::from(code));
        }
        Ok(ForkResult::Parent { child }) => {
            drop((client, header));
            shared.fd_sender = None;
            let (is_over, fd_store) = waits_for(child, fd_store);
            if is_over {
                return 0;
            }
            shared.pipes = fd_store.map_or_else(HashMap::new, FdStore::into_pipes);
            tracing::warn!("the keeper (pid {child}) died; the root takes its place");
            let succeeded = Keeper::inherit(shared, None, Cover::Used);
            exit_code(&succeeded.and_then(Keeper::run))
        }
        Err(errno) => {
            let refusal = StartError::failed(format!("cannot fork: {}", errno.desc()));
            tracing::error!("{}", refusal.message);
            if let Some(client) = client {
                refusal.send(&client);
            }
            70
        }
    }
}

/// The exit code of a keeper, whose error is told here.
fn exit_code(result: &Result<(), KeeperError>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!("{error}");
            70
        }
    }
}

fn keep(
    shared: Shared,
    header: Option<Header>,
    client: Option<UnixStream>,
) -> Result<(), KeeperError> {
    setsid().map_err(KeeperError::system("setsid"))?;
    become_subreaper("dewar-keeper").map_err(KeeperError::system("prctl"))?;
    let keeper = match header {
        Some(header) => Keeper::begin(shared, header, client),
        None => Keeper::inherit(shared, client, Cover::Whole),
    }?;
    keeper.run()
}

/// Waits for the keeper and holds what it hands over; true when it left because the task is over.
/// Memory is given back once the keeper has had time to start, or to end: the processor has better
/// uses at that moment.
fn waits_for(keeper: nix::unistd::Pid, mut fd_store: Option<FdStore>) -> (bool, Option<FdStore>) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::os::fd::AsFd;
    let pidfd = Pid::from_raw(keeper.as_raw()).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let mut restless = Restless::begun(now().boot_us);
    while let Some(Ok(pidfd)) = &pidfd {
        let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        if let Some(fd_store) = &fd_store {
            fds.push(PollFd::new(fd_store.as_fd(), PollFlags::POLLIN));
        }
        if restless.is_overdue(now().boot_us) {
            trim_code();
            restless.settle();
        }
        let timeout = match restless.is_restless() {
            true => PollTimeout::from((SETTLE_US / 1000) as u16),
            false => PollTimeout::NONE,
        };
        match poll(&mut fds, timeout) {
            Ok(0) => {
                trim_code();
                restless.settle();
            }
            Ok(_) if fds[0].any() == Some(true) => break,
            Ok(_) => {
                restless.stir(now().boot_us);
                let is_open = fd_store.as_mut().is_some_and(FdStore::receive);
                if !is_open {
                    // The keeper is dying; what it handed over stays.
                    let code = wait(keeper);
                    return (code, fd_store);
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => {
                tracing::error!("cannot wait for the keeper: {errno}");
                break;
            }
        }
    }
    (wait(keeper), fd_store)
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
