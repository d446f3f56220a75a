//! From a launch command to a child behind its gate.

use std::os::fd::BorrowedFd;
use std::ptr;
use std::{
    collections::HashMap,
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::{
    child::{ChildPlan, Gated, Pointers, fork_plainly},
    confine::Confinement,
    join_namespaces::fork_inside,
    limits::rlimits_of,
};
use crate::{
    engine::{
        ipc::{Key, SharedState},
        keeper::output::{self, Pipes, Policy, Slot, Source, Stream},
    },
    protocols::dewar::link as wire,
    resources::{Doors, Group},
    sandbox::private::InitProcess,
};

/// A launched child and what its keeper holds of it.
pub(crate) struct Launched {
    pub child: Gated,
    pub gate: OwnedFd,
    pub streams: Vec<Stream>,
}

/// What every launch shares.
pub(crate) struct Setting {
    pub null: File,
    pub open_files: libc::rlimit,
    pub ignored_signals: Vec<i32>,
    pub umask: u32,
    /// Where our own command line is in memory.
    pub arguments: (usize, usize),
}

/// How a child enters its task's namespaces, and with which rights.
pub(crate) struct Entrance<'a> {
    pub init: Option<&'a InitProcess>,
    pub confinement: Confinement<'a>,
}

/// What a child may use and see.
pub(crate) struct Bounds<'a> {
    pub group: Option<&'a Group>,
    pub entrance: Option<Entrance<'a>>,
}

/// Opens the logs and forks.
///
/// # Errors
/// Whatever keeps the run from being launched; it is then a failed run, and this is its reason.
pub(crate) fn launch(
    key: Key,
    command: &wire::Launch,
    setting: &Setting,
    live: &SharedState,
    slot: usize,
    bounds: Bounds<'_>,
) -> io::Result<Launched> {
    let identity = command.identity.as_ref();
    let owner = identity.map(|identity| (identity.uid, identity.gid));
    let outputs = Outputs::open(key, command, owner, &setting.null)?;
    fork_with(command, setting, live, slot, outputs, bounds)
}

fn fork_with(
    command: &wire::Launch,
    setting: &Setting,
    live: &SharedState,
    slot: usize,
    outputs: Outputs,
    bounds: Bounds<'_>,
) -> io::Result<Launched> {
    let bytes = |what: &[u8]| CString::new(what).map_err(|_| nul_byte());
    let argv = each(&command.argv)?;
    let environment = each(&command.environment)?;
    let programs = programs(command)?;
    let identity = command.identity.as_ref();
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
    )?;
    // The child's end blocks: that is the gate.
    nix::fcntl::fcntl(
        &theirs,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()),
    )?;
    let doors = bounds
        .group
        .map_or_else(|| Ok(Doors::default()), Group::doors)?;
    let (init, confinement) = match bounds.entrance {
        Some(entrance) => (entrance.init, Some(entrance.confinement)),
        None => (None, None),
    };
    let plan = ChildPlan {
        programs,
        argv,
        environment,
        directory: bytes(&command.directory)?,
        identity: identity.map(|identity| (identity.uid, identity.gid, identity.groups.clone())),
        umask: command.umask.unwrap_or(setting.umask),
        open_files: setting.open_files,
        rlimits: rlimits_of(command),
        nice: command.nice,
        oom_score_adj: command
            .oom_score_adj
            .map(|adj| CString::new(adj.to_string()))
            .transpose()?,
        doors: doors.others.iter().map(AsRawFd::as_raw_fd).collect(),
        birth: doors.birth.as_ref().map(AsRawFd::as_raw_fd),
        entry: init.map(InitProcess::entry),
        arguments: setting.arguments,
        confinement,
        ignored_signals: &setting.ignored_signals,
        stdin: setting.null.as_raw_fd(),
        stdout: outputs.stdout.as_raw_fd(),
        stderr: outputs.stderr.as_raw_fd(),
        gate: theirs.as_raw_fd(),
        pass: live.pass(slot),
    };
    let child = fork_gated(&plan, ours.as_fd())?;
    Ok(Launched {
        child,
        gate: ours,
        streams: outputs.streams,
    })
}

/// Forks a health check's script, whose output goes into `output`.
///
/// # Errors
/// Whatever keeps it from being started.
pub(crate) fn launch_script(
    command: &wire::Launch,
    setting: &Setting,
    live: &SharedState,
    slot: usize,
    output: &File,
    bounds: Bounds<'_>,
) -> io::Result<Launched> {
    let outputs = Outputs {
        stdout: output.try_clone()?.into(),
        stderr: output.try_clone()?.into(),
        streams: Vec::new(),
    };
    fork_with(command, setting, live, slot, outputs, bounds)
}

struct Outputs {
    stdout: OwnedFd,
    stderr: OwnedFd,
    streams: Vec<Stream>,
}

impl Outputs {
    fn open(
        key: Key,
        command: &wire::Launch,
        owner: Option<(u32, u32)>,
        null: &File,
    ) -> io::Result<Outputs> {
        let log = command.log.unwrap_or_default();
        if !log.keep {
            return Ok(Outputs {
                stdout: null.try_clone()?.into(),
                stderr: null.try_clone()?.into(),
                streams: Vec::new(),
            });
        }
        let sandbox = Path::new(std::ffi::OsStr::from_bytes(&command.sandbox));
        let directory = output::directory(sandbox, &command.name, command.run, owner)?;
        let stdout = output::open_log(directory.as_fd(), "stdout", owner)?;
        let stderr = output::open_log(directory.as_fd(), "stderr", owner)?;
        if !is_pumped(&log) {
            return Ok(Outputs {
                stdout: stdout.into(),
                stderr: stderr.into(),
                streams: Vec::new(),
            });
        }
        let (out_source, stdout_end) = Source::pipe()?;
        let (err_source, stderr_end) = Source::pipe()?;
        if let Some((uid, gid)) = owner {
            let (uid, gid) = (uid.into(), gid.into());
            // So that /dev/stdout can be opened, as a log file can.
            for end in [&stdout_end, &stderr_end] {
                nix::unistd::fchown(end, Some(uid), Some(gid))?;
            }
        }
        let sink = Sink::new(key, command, owner);
        Ok(Outputs {
            stdout: stdout_end,
            stderr: stderr_end,
            streams: vec![
                sink.stream(out_source, 1, "stdout", stdout, directory.try_clone()?)?,
                sink.stream(err_source, 2, "stderr", stderr, directory)?,
            ],
        })
    }
}

/// True when output of this order comes through a pipe.
pub(crate) fn is_pumped(log: &wire::Log) -> bool {
    log.keep && (log.rotate_bytes > 0 || log.echo || log.pipe)
}

/// Where the output of a run goes that is pumped.
struct Sink {
    key: Key,
    policy: Policy,
}

impl Sink {
    fn new(key: Key, command: &wire::Launch, owner: Option<(u32, u32)>) -> Sink {
        let log = command.log.unwrap_or_default();
        Sink {
            key,
            policy: Policy {
                echo: log.echo.then(|| command.name.clone()),
                // Without rotation a file grows for ever.
                bytes: match log.rotate_bytes {
                    0 => u64::MAX,
                    bytes => bytes,
                },
                backups: log.backups,
                owner,
            },
        }
    }

    fn stream(
        &self,
        source: Source,
        number: u8,
        name: &'static str,
        file: File,
        directory: OwnedFd,
    ) -> io::Result<Stream> {
        let slot = Slot {
            key: self.key,
            number,
        };
        Stream::new(slot, source, name, file, directory, self.policy.clone())
    }
}

/// Reads on where a dead keeper left off: the pipes that were held for it, else those that `pid`
/// still writes to.
///
/// # Errors
/// When a log file cannot be opened. Outputs that are no pipe of ours any more are left out.
pub(crate) fn reopen(
    key: Key,
    command: &wire::Launch,
    pid: i32,
    held: &mut HashMap<Slot, Pipes>,
) -> io::Result<Vec<Stream>> {
    let identity = command.identity.as_ref();
    let owner = identity.map(|identity| (identity.uid, identity.gid));
    let sandbox = Path::new(std::ffi::OsStr::from_bytes(&command.sandbox));
    let sink = Sink::new(key, command, owner);
    let mut streams = Vec::new();
    for (number, name) in [(1u8, "stdout"), (2, "stderr")] {
        let slot = Slot { key, number };
        let pipes = held.remove(&slot).unwrap_or_default();
        let source = match pipes.source {
            Some(source) => Some(Source::of(source)?),
            None => Source::reopen(pid, i32::from(number)),
        };
        if let Some(source) = source {
            let directory = output::directory(sandbox, &command.name, command.run, owner)?;
            let file = output::open_log(directory.as_fd(), name, owner)?;
            let stream = sink.stream(source, number, name, file, directory)?;
            streams.push(stream.staged(pipes.stage)?);
        }
    }
    Ok(streams)
}

/// Where exec looks, in order. Only PATH of the run's own environment counts.
fn programs(command: &wire::Launch) -> io::Result<Vec<CString>> {
    let Some(name) = command.argv.first() else {
        return Err(io::Error::other("no program to run"));
    };
    if name.contains(&b'/') {
        return each(std::slice::from_ref(name));
    }
    let path = command
        .environment
        .iter()
        .find_map(|entry| entry.strip_prefix(b"PATH="))
        .unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
    path.split(|byte| *byte == b':')
        .map(|directory| {
            let mut program = directory.to_vec();
            if !program.is_empty() {
                program.push(b'/');
            }
            program.extend_from_slice(name);
            CString::new(program).map_err(|_| nul_byte())
        })
        .collect()
}

fn each(strings: &[Vec<u8>]) -> io::Result<Vec<CString>> {
    strings
        .iter()
        .map(|string| CString::new(string.as_slice()).map_err(|_| nul_byte()))
        .collect()
}

fn nul_byte() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "an argument, variable or path contains a NUL byte",
    )
}

/// Forks a child that does what `plan` says and waits at its gate. `gate` is the keeper's end.
///
/// # Errors
/// What clone says: EAGAIN, ENOMEM, EMFILE; what keeps it from entering the task's namespaces.
pub(super) fn fork_gated(plan: &ChildPlan<'_>, gate: BorrowedFd<'_>) -> io::Result<Gated> {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        let each = strings.iter().map(|string| string.as_ptr());
        each.chain([ptr::null()]).collect()
    };
    let pointers = Pointers {
        argv: pointers(&plan.argv),
        environment: pointers(&plan.environment),
    };
    match plan.entry {
        None => fork_plainly(plan, &pointers),
        Some((_, namespaces)) => fork_inside(plan, &pointers, namespaces, gate),
    }
}
