//! The keeper's loop: wait, take in what happened, carry out what is due, report, sync.
//!
//! Invariants: this thread never waits for the disk or for a reader of output; a gate opens, a
//! signal is sent and a zombie is reaped only when the records before them are on disk.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::{
    journal_writer::Writer,
    namespaces::Dens,
    output::Pump,
    probe::Probe,
    runner_link::Runner,
    runs::{Run, Runs},
    shared::{IGNORED, Shared},
    spawn::Setting,
    strays::Strays,
    tasks::{KeptTask, Tasks},
};
use crate::{
    engine::ipc::{Holder, Key},
    journal::Header,
    protocols::dewar::link as wire,
    resources::{Group, Site},
    sandbox::private::own_arguments,
    sys::process,
};

/// How long a record that nobody waits for may stay in memory, microseconds.
pub(super) const LAZY_US: u64 = 10_000;
/// How long the output of a dead process is waited for, microseconds.
pub(super) const DRAIN_US: u64 = 200_000;
/// The same when a dead keeper read it and nobody has read on yet, microseconds.
pub(super) const UNREAD_US: u64 = 5_000_000;
/// How long the runner may take to leave after the end, microseconds.
pub(super) const LEAVE_US: u64 = 500_000;

/// A pause of this length means that we mostly wait again, milliseconds.
pub(super) const SETTLE_MS: u16 = 100;

pub(super) const KIND_SHIFT: u32 = 32;

/// What an epoll event is about; the lower half of its number is a run's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Token {
    Signal = 1,
    Link,
    Runner,
    Writer,
    Pump,
    Stray,
    Exit,
    Gate,
    Root,
    Probe,
    InitProcess,
    Orphan,
    Memory,
}

impl Token {
    pub fn number(self, index: usize) -> u64 {
        (self as u64) << KIND_SHIFT | index as u64
    }

    pub(super) fn of(number: u64) -> Option<(Token, usize)> {
        const ALL: [Token; 13] = [
            Token::Signal,
            Token::Link,
            Token::Runner,
            Token::Writer,
            Token::Pump,
            Token::Stray,
            Token::Exit,
            Token::Gate,
            Token::Root,
            Token::Probe,
            Token::InitProcess,
            Token::Orphan,
            Token::Memory,
        ];
        let kind = number >> KIND_SHIFT;
        let token = ALL.into_iter().find(|token| *token as u64 == kind)?;
        Some((token, number as u32 as usize))
    }
}

/// The parent of all processes of its tasks.
pub(super) struct Keeper {
    pub shared: Shared,
    pub setting: Setting,
    pub epoll: Epoll,
    pub signals: SignalFd,
    pub writer: Writer,
    /// The root, where its death ends everything.
    pub root: Option<OwnedFd>,
    pub pump: Option<Pump>,
    pub runner: Option<Runner>,
    /// When the runner is to be started again, and how often in a row it died young.
    pub runner_due: Option<u64>,
    pub young_deaths: u32,
    /// How many runners in a row went because what they said could not be used.
    pub broken_links: u32,

    pub tasks: Tasks,
    pub runs: Runs,
    pub probes: Vec<Option<Probe>>,
    /// Per task and process: the run number that may be started next.
    pub next_run: HashMap<(u32, u32), u32>,
    /// Started but never passed their gate, under a keeper that died.
    pub unlaunched: BTreeSet<Key>,
    /// Processes of an earlier keeper that are not below us.
    pub strays: Option<Strays>,

    /// Commands that wait for a record to be on disk.
    pub deferred: VecDeque<(u64, u32, wire::command::Kind)>,
    pub gates: VecDeque<(u64, usize)>,
    pub slots: VecDeque<(u64, usize)>,
    pub reaps: VecDeque<(u64, usize)>,
    /// Dead and on disk, but something of their session is still alive.
    pub lingering: Vec<usize>,
    /// Where cgroups can be made, once somebody needs one.
    pub site: Option<Box<Site>>,
    /// Groups of runs that are over, with something still in them.
    pub left_groups: Vec<Group>,
    /// When to look again at the memory of which run.
    pub memory_looks: Vec<(u64, usize)>,
    /// Namespaces of private tasks.
    pub dens: Dens,
    /// Orphans in them whose end is waited for, by pid.
    pub orphans: HashMap<i32, OwnedFd>,

    pub pushed: u64,
    pub durable: u64,
    /// When what was pushed has to be flushed at the latest.
    pub flush_by: Option<u64>,
    pub urgent: bool,

    pub report: wire::Report,
    pub reports: u64,
    pub to_answer: u64,
    pub answered: u64,

    pub children_changed: bool,
    pub failed: Option<String>,
    pub leave_by: Option<u64>,
    /// Something happened since memory was last given back.
    pub is_restless: bool,
    /// The journal cannot be trusted: leave as soon as nothing is alive.
    pub is_leaving: bool,
    /// Launches that wait for a free slot, each with its task.
    pub queued: VecDeque<(u32, wire::Launch)>,
}

impl Keeper {
    /// Looks after one more task.
    pub(super) fn keep(&mut self, task: u32, directory: String, header: &Header) {
        self.tasks.insert(task, KeptTask::new(directory, header));
    }

    pub(super) fn new(shared: Shared) -> Result<Keeper, String> {
        let fail = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let errno = |what: &'static str| move |errno: Errno| format!("{what}: {errno}");
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        // Before any thread exists, so that all of them have it. All signals, because a child that
        // is asked to stop before it has taken back our SIG_IGN must not miss that: a blocked
        // signal waits.
        SigSet::all()
            .thread_block()
            .map_err(errno("block signals"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&mask, flags).map_err(errno("signalfd"))?;
        let setting = setting(shared.open_files).map_err(fail("prepare"))?;
        let writer = Writer::start().map_err(fail("start the journal's thread"))?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(errno("epoll"))?;
        let keeper = Keeper {
            shared,
            setting,
            epoll,
            signals,
            writer,
            root: None,
            pump: None,
            runner: None,
            runner_due: None,
            young_deaths: 0,
            broken_links: 0,
            tasks: Tasks::default(),
            runs: Runs::default(),
            probes: Vec::new(),
            next_run: HashMap::new(),
            unlaunched: BTreeSet::new(),
            strays: None,
            deferred: VecDeque::new(),
            gates: VecDeque::new(),
            slots: VecDeque::new(),
            reaps: VecDeque::new(),
            lingering: Vec::new(),
            site: None,
            left_groups: Vec::new(),
            memory_looks: Vec::new(),
            dens: Dens::default(),
            orphans: HashMap::new(),
            pushed: 0,
            durable: 0,
            flush_by: None,
            urgent: false,
            report: wire::Report::default(),
            reports: 0,
            to_answer: 0,
            answered: 0,
            children_changed: true,
            failed: None,
            leave_by: None,
            is_restless: true,
            is_leaving: false,
            queued: VecDeque::new(),
        };
        let ticks = process::stat(std::process::id() as i32).map_or(0, |stat| stat.start_ticks);
        let live = &keeper.shared.live;
        live.set_holder(Holder::Keeper, std::process::id(), ticks);
        keeper
            .watch(keeper.signals.as_fd(), Token::Signal.number(0))
            .and_then(|()| keeper.watch(keeper.writer.event(), Token::Writer.number(0)))
            .map_err(fail("epoll"))?;
        Ok(keeper)
    }

    pub(super) fn watch(&self, fd: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
        Ok(self.epoll.add(fd, event)?)
    }

    pub(super) fn unwatch(&self, fd: BorrowedFd<'_>) {
        if let Err(errno) = self.epoll.delete(fd) {
            tracing::warn!("epoll: {errno}");
        }
    }

    pub(super) fn insert_run(&mut self, run: Run) -> usize {
        let key = run.key;
        let next = self.next_run.entry((key.task, key.process)).or_default();
        *next = (*next).max(key.run + 1);
        self.tasks.add_session(run.pid, key.task);
        self.runs.insert(run)
    }

    /// Watches a run's exit and gate. A keeper that cannot would leave an end unseen: it gives
    /// way to its successor.
    pub(super) fn watch_run(&self, index: usize) {
        let Some(run) = self.runs.get(index) else {
            return;
        };
        // Somebody else's child is over when it has been reaped (EPOLLHUP): only then its code is
        // told. Ours is over when it can be.
        let interest = match run.is_child {
            true => EpollFlags::EPOLLIN,
            false => EpollFlags::empty(),
        };
        let event = EpollEvent::new(interest, Token::Exit.number(index));
        let mut watched = self.epoll.add(&run.pidfd, event).map_err(io::Error::from);
        if let (Ok(()), Some(gate)) = (&watched, &run.gate) {
            watched = self.watch(gate.as_fd(), Token::Gate.number(index));
        }
        if let Err(error) = watched {
            tracing::error!("cannot watch pid {}: {error}; giving up", run.pid);
            std::process::exit(70);
        }
    }

    pub(super) fn runner_pid(&self) -> Option<i32> {
        self.runner.as_ref().map(|runner| runner.process.pid)
    }
}

/// What every child gets: read once, because the keeper changes its own.
fn setting((soft, hard): (u64, u64)) -> io::Result<Setting> {
    use nix::sys::stat::umask;
    let mask = umask(nix::sys::stat::Mode::empty());
    umask(mask);
    Ok(Setting {
        null: File::options().read(true).write(true).open("/dev/null")?,
        open_files: libc::rlimit {
            rlim_cur: soft,
            rlim_max: hard,
        },
        ignored_signals: IGNORED.iter().map(|signal| *signal as i32).collect(),
        umask: mask.bits(),
        arguments: own_arguments(),
    })
}
