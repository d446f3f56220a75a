//! The keeper: the parent of all processes of its tasks, and the parts that it is made of.
//!
//! Each part looks after its own state and knows no other part. The files with an `impl Keeper`
//! carry between the parts; `event_loop` says when. This file only puts them together.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    sys::{
        resource::{Resource, getrlimit},
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::{
    cgroups::Cgroups,
    error::KeeperError,
    handed_over::HandedOver,
    health_script::HealthScripts,
    journal_writer::Writer,
    namespaces::Namespaces,
    output::Pump,
    pending::Pending,
    poller::{Poller, Token},
    runner_link::RunnerLink,
    runs::Runs,
    shared::{IGNORED, Shared},
    spawn::Setting,
    strays::Strays,
    tasks::{KeptTask, Tasks},
};
use crate::{
    engine::ipc::Holder,
    journal::Header,
    sandbox::private::own_arguments,
    sys::{clock::now, process, restless::Restless},
};

/// The parent of all processes of its tasks.
pub(super) struct Keeper {
    pub shared: Shared,
    pub setting: Setting,
    pub poller: Poller,
    pub signals: SignalFd,
    pub writer: Writer,
    /// The root, where its death ends everything.
    pub root: Option<OwnedFd>,
    /// The thread that moves output, from the first run on that needs it.
    pub pump: Option<Pump>,
    pub link: RunnerLink,
    pub pending: Pending,
    pub tasks: Tasks,
    pub runs: Runs,
    pub health_scripts: HealthScripts,
    pub cgroups: Cgroups,
    pub namespaces: Namespaces,
    /// What runs without groups have left.
    pub handed_over: HandedOver,
    /// Processes of an earlier keeper that are not below this one.
    pub strays: Option<Strays>,
    /// A child may have died since the children were last looked at.
    pub children_changed: bool,
    /// Why the journal cannot be written, or is not to be.
    pub failed: Option<String>,
    /// The task is over: when the runner has to be gone, microseconds of CLOCK_BOOTTIME.
    pub leave_by: Option<u64>,
    /// When memory is given back.
    pub restless: Restless,
    /// The keeper leaves as soon as nothing is alive, without its runner.
    pub is_leaving: bool,
}

impl Keeper {
    /// A keeper without tasks, in a process with one thread.
    pub fn new(shared: Shared) -> Result<Keeper, KeeperError> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        // Before any thread exists, so that all of them have it. All signals, because a child that
        // is asked to stop before it has taken back our SIG_IGN must not miss that: a blocked
        // signal waits.
        SigSet::all()
            .thread_block()
            .map_err(KeeperError::system("block signals"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals =
            SignalFd::with_flags(&mask, flags).map_err(KeeperError::system("signalfd"))?;
        let setting = setting(shared.open_files).map_err(KeeperError::system("prepare"))?;
        reserve_descriptors().map_err(KeeperError::system("reserve descriptors"))?;
        let writer = Writer::start().map_err(KeeperError::system("start the journal's thread"))?;
        let poller = Poller::new().map_err(KeeperError::system("epoll"))?;
        let ticks = process::stat(std::process::id() as i32).map_or(0, |stat| stat.start_ticks);
        shared
            .live
            .set_holder(Holder::Keeper, std::process::id(), ticks);
        poller
            .watch(signals.as_fd(), Token::Signal, 0)
            .and_then(|()| poller.watch(writer.event(), Token::Writer, 0))
            .map_err(KeeperError::system("epoll"))?;
        Ok(Keeper {
            shared,
            setting,
            poller,
            signals,
            writer,
            root: None,
            pump: None,
            link: RunnerLink::default(),
            pending: Pending::default(),
            tasks: Tasks::default(),
            runs: Runs::default(),
            health_scripts: HealthScripts::default(),
            cgroups: Cgroups::default(),
            namespaces: Namespaces::default(),
            handed_over: HandedOver::default(),
            strays: None,
            children_changed: true,
            failed: None,
            leave_by: None,
            restless: Restless::begun(now().boot_us),
            is_leaving: false,
        })
    }

    /// Looks after one more task.
    pub fn keep(&mut self, task: u32, directory: String, header: &Header) {
        self.tasks.insert(task, KeptTask::new(directory, header));
    }
}

/// Makes room in the table of descriptors while there is one thread: afterwards the kernel makes
/// it grow in steps, and at each the keeper waits until all processors have taken notice.
fn reserve_descriptors() -> io::Result<()> {
    /// Enough for 500 runs with two descriptors each; 16 kB of the kernel's memory.
    const ROOM: i32 = 2048;
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let last = ROOM.min(i32::try_from(soft).unwrap_or(ROOM)) - 1;
    let null = File::open("/dev/null")?;
    // A limit that leaves no room is told of when a descriptor is needed.
    match fcntl(&null, FcntlArg::F_DUPFD_CLOEXEC(last)) {
        Ok(fd) => Ok(nix::unistd::close(fd)?),
        Err(Errno::EMFILE | Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
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
