//! The keeper's loop: wait, take in what happened, carry out what is due, report, sync.
//!
//! Invariants: this thread never waits for the disk or for a reader of output; a gate opens, a
//! signal is sent and a zombie is reaped only when the records before them are on disk.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{
    conversation::Runner,
    health_scripts::Probe,
    journal_writer::Writer,
    output::{Pump, PumpEvent},
    private_tasks::Dens,
    root::{IGNORED, Shared},
    runner_process::fork_runner,
    runs::{Phase, Run, Runs},
    spawn::Setting,
    takeover::Strays,
    tasks::{KeptTask, Tasks},
};
use crate::{
    engine::ipc::{GoError, Holder, JOURNAL, Key},
    journal::{Cover, FileStorage, Header, Journal},
    protocols::dewar::link as wire,
    resources::{Group, Site},
    sandbox::private::own_arguments,
    sys::{clock::now, memory::trim_code, process},
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
const SETTLE_MS: u16 = 100;

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
    Den,
    Orphan,
    Memory,
}

impl Token {
    pub fn number(self, index: usize) -> u64 {
        (self as u64) << KIND_SHIFT | index as u64
    }

    fn of(number: u64) -> Option<(Token, usize)> {
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
            Token::Den,
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
    /// Begins a new task: its journal, its first runner.
    ///
    /// # Errors
    /// A message; the client has been told it too.
    pub fn begin(
        shared: Shared,
        header: Header,
        client: Option<UnixStream>,
    ) -> Result<Keeper, String> {
        let again = || client.as_ref().map(UnixStream::try_clone).transpose();
        let tell = again().map_err(|error| error.to_string())?;
        let inherited = again().map_err(|error| error.to_string())?;
        let refuse = |what: &str, error: io::Error| {
            let message = format!("cannot {what} in {}: {error}", shared.path);
            let refusal = GoError {
                busy: false,
                message: message.clone(),
            };
            if let Some(tell) = &tell {
                refusal.send(tell);
            }
            message
        };
        let runner = fork_runner(
            &shared.listener,
            &shared.directory,
            client.map(OwnedFd::from),
            inherited.map(OwnedFd::from).into_iter().collect(),
            shared.runner,
        )
        .map_err(|error| refuse("start the runner", error))?;
        let storage = journal_file(&shared).map_err(|error| refuse("open the journal", error))?;
        let journal =
            Journal::create(storage).map_err(|error| refuse("write the journal", error))?;
        let sync = shared
            .directory
            .try_clone()
            .and_then(|directory| sync_directories(directory, &shared.path))
            .map_err(|error| refuse("sync", error))?;
        let mut keeper = Keeper::new(shared)?;
        keeper.keep(0, keeper.shared.path.clone(), &header);
        keeper.writer.add(0, journal, 0, Some(sync));
        // They reach the disk together with the first start; the runner hears of them before.
        let is_executor = header.executor.is_some();
        keeper.begin_journal(0, header, Cover::Whole);
        if is_executor {
            keeper.watch_root()?;
        }
        keeper.adopt_runner(runner)?;
        Ok(keeper)
    }

    /// Under Mesos the root is the container's first process: the agent takes its death for the
    /// end of the container, so everything ends with it.
    fn watch_root(&mut self) -> Result<(), String> {
        let root = nix::unistd::getppid();
        let failed = |error: io::Error| format!("watch the root: {error}");
        let pidfd = Pid::from_raw(root.as_raw())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
            .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?))
            .map_err(failed)?;
        self.watch(pidfd.as_fd(), Token::Root.number(0))
            .map_err(failed)?;
        // It died before it was watched, and its pid is somebody else's.
        if nix::unistd::getppid() != root {
            return Err("the root died".to_owned());
        }
        self.root = Some(pidfd);
        Ok(())
    }

    fn root_died(&mut self) {
        tracing::error!("the container's first process died: killing everything and leaving");
        if let Some(root) = self.root.take() {
            self.unwatch(root.as_fd());
        }
        self.end_all();
        self.is_leaving = true;
        self.stop_listening();
    }

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

    /// Runs until the task is over.
    ///
    /// # Errors
    /// A message, when the keeper cannot go on; its successor will.
    pub fn run(mut self) -> Result<(), String> {
        if self.runner.is_none() {
            self.start_runner();
        }
        let mut events = [EpollEvent::empty(); 64];
        loop {
            self.settle()?;
            if self.is_over() {
                self.remove_all_groups();
                return Ok(());
            }
            let mut found = self.epoll.wait(&mut events, self.timeout());
            if found == Ok(0) && self.is_restless && self.due().is_none() {
                self.is_restless = false;
                self.give_back();
                // At once: whatever runs after that comes back into memory.
                found = self.epoll.wait(&mut events, EpollTimeout::NONE);
            }
            let count = match found {
                Ok(count) => {
                    self.is_restless |= count > 0;
                    count
                }
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(format!("epoll: {errno}")),
            };
            for event in &events[..count] {
                self.dispatch(*event)?;
            }
        }
    }

    fn dispatch(&mut self, event: EpollEvent) -> Result<(), String> {
        match Token::of(event.data()) {
            Some((Token::Signal, _)) => {
                // Only a wake-up: who it was about is found by waitid.
                self.take_signals();
                self.children_changed = true;
            }
            Some((Token::Link, _)) => self.hear(event.events()),
            Some((Token::Runner, _)) => self.runner_died(),
            Some((Token::Writer, _)) => self.progressed(),
            Some((Token::Pump, _)) => self.pumped(),
            Some((Token::Stray, index)) => self.stray_died(index),
            Some((Token::Exit, index)) => self.first_process_died(index),
            Some((Token::Gate, index)) => self.gate_spoke(index),
            Some((Token::Root, _)) => self.root_died(),
            Some((Token::Probe, index)) => self.probe_died(index),
            Some((Token::Den, serial)) => self.den_died(serial),
            Some((Token::Orphan, pid)) => self.orphan_died(pid as i32),
            Some((Token::Memory, index)) => self.memory_spoke(index),
            None => return Err("an event that nobody asked for".to_owned()),
        }
        Ok(())
    }

    /// Takes the pending SIGCHLDs; true when there was one.
    pub(super) fn take_signals(&self) -> bool {
        let mut some = false;
        while matches!(self.signals.read_signal(), Ok(Some(_))) {
            some = true;
        }
        some
    }

    /// Carries out what is due, tells the runner, and starts a sync when somebody waits for one.
    fn settle(&mut self) -> Result<(), String> {
        let clock = now().boot_us;
        if self.runner_due.is_some_and(|due| due <= clock) {
            self.start_runner();
        }
        self.end_drained(clock);
        self.end_overdue_probes(clock);
        self.look_at_memory(clock);
        self.launch_queued();
        self.run_deferred();
        self.look_after_children();
        self.send_report();
        let waited_for =
            self.urgent || (self.flush_by.is_some() && self.answered >= self.to_answer);
        if self.flush_by.is_some_and(|by| waited_for || by <= clock) {
            self.flush_by = None;
            self.urgent = false;
            self.writer.flush();
        }
        if self.leave_by.is_some_and(|by| by <= clock)
            && let Some(runner) = self.runner.take()
        {
            tracing::warn!("the runner did not leave; killing it");
            let kill = rustix::process::Signal::KILL;
            if let Err(errno) = rustix::process::pidfd_send_signal(&runner.process.pidfd, kill) {
                tracing::warn!("cannot kill the runner: {errno}");
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let said_goodbye = self.leave_by.is_some() && self.runner.is_none();
        let said_goodbye = said_goodbye && !self.has_dens();
        said_goodbye || (self.is_leaving && !self.awaits_emptiness())
    }

    /// Returns the memory that a busy time took.
    fn give_back(&mut self) {
        self.deferred.shrink_to_fit();
        self.gates.shrink_to_fit();
        self.slots.shrink_to_fit();
        self.reaps.shrink_to_fit();
        self.queued.shrink_to_fit();
        self.writer.shrink_to_fit();
        if let Some(runner) = &mut self.runner {
            runner.shrink_to_fit();
        }
        trim_code();
    }

    /// When something has to be done although nothing happens.
    fn due(&self) -> Option<u64> {
        let drains = self.runs.iter().filter_map(|(_, run)| match run.phase {
            Phase::Draining { until } => Some(until),
            _ => None,
        });
        drains
            .chain(self.flush_by)
            .chain(self.runner_due)
            .chain(self.memory_looks.iter().map(|(at, _)| *at))
            .chain(self.leave_by.filter(|_| self.runner.is_some()))
            .chain(self.probe_due())
            .min()
    }

    fn timeout(&self) -> EpollTimeout {
        match self.due() {
            None if self.is_restless => EpollTimeout::from(SETTLE_MS),
            None => EpollTimeout::NONE,
            Some(at) => {
                let ms = at.saturating_sub(now().boot_us).div_ceil(1000);
                EpollTimeout::from(u16::try_from(ms).unwrap_or(u16::MAX))
            }
        }
    }

    fn awaits_emptiness(&self) -> bool {
        self.tasks.iter().any(|(_, kept)| kept.awaiting_empty)
    }

    fn pumped(&mut self) {
        let Some(pump) = &self.pump else { return };
        for event in pump.events() {
            match event {
                PumpEvent::Finished(key) => self.output_finished(key),
                PumpEvent::Dropped { key, stream, bytes } => {
                    let text =
                        format!("{bytes} bytes of {stream} could not be written and are lost");
                    self.notice(text, key);
                }
            }
        }
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

pub(super) fn journal_file(shared: &Shared) -> io::Result<FileStorage> {
    FileStorage::open(shared.directory.try_clone()?, JOURNAL)
}

/// A new file is durable only when its directory, and that one's entry, are.
pub(super) fn sync_directories(
    directory: OwnedFd,
    path: &str,
) -> io::Result<Box<dyn FnOnce() -> io::Result<()> + Send>> {
    let parent = File::open(format!("{path}/.."))?;
    Ok(Box::new(move || {
        nix::unistd::fsync(&directory)?;
        parent.sync_all()
    }))
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
