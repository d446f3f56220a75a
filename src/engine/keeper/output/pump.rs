//! The thread that moves output from pipes into log files.
//!
//! It never waits for a disk's space or for a reader. At rest it sleeps; of a process that writes
//! in small pieces all the time it lets some come together: that is several times faster for both,
//! and takes a pipe with room for the pause.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::{EfdFlags, EventFd},
    },
};

use super::{
    rotation::{Moved, Stream, Tools},
    source::Source,
    surviving_pipes::FdSender,
};
use crate::{
    engine::ipc::Key,
    sys::{process, retry::wake},
};

const WAKE: u64 = u64::MAX;
/// Pieces of one stream before the others have their turn.
const TURN: usize = 16;
/// A turn that moved less than this found a pipe that was nearly empty.
const SHORT: usize = 16 << 10;
/// Short turns in a row, each right after the other, after which a process counts as chatty.
const CHATTY: u32 = 8;
/// How soon a turn is right after the last one.
const SOON: Duration = Duration::from_millis(2);
/// The pause that lets output come together, milliseconds.
const PAUSE_MS: u8 = 1;

/// What the pump tells its keeper.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PumpEvent {
    /// All output of this run is in its files.
    Finished(Key),
    /// Output of this run was lost.
    Dropped {
        key: Key,
        stream: &'static str,
        bytes: u64,
    },
}

/// A pipe, and how many bytes are on their way from it.
type Open = (Arc<Source>, Arc<AtomicUsize>);

#[derive(Debug, Default)]
struct Mail {
    new: Vec<Stream>,
    /// The pipes that are still read, and what is on its way from them.
    open: HashMap<Key, Vec<Open>>,
    events: Vec<PumpEvent>,
}

/// The keeper's side of the pump.
#[derive(Debug)]
pub(crate) struct Pump {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mail: Mutex<Mail>,
    to_pump: EventFd,
    to_keeper: EventFd,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: PumpEvent) {
        self.lock().events.push(event);
        if let Err(errno) = wake(&self.to_keeper) {
            tracing::error!("pump cannot wake the keeper: {errno}");
        }
    }
}

impl Pump {
    /// Starts the thread; `fd_sender` hands copies of what it reads to the root.
    pub fn start(fd_sender: Option<Arc<FdSender>>) -> io::Result<Pump> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let shared = Arc::new(Shared {
            mail: Mutex::default(),
            to_pump: EventFd::from_value_and_flags(0, flags)?,
            to_keeper: EventFd::from_value_and_flags(0, flags)?,
        });
        // Here, where a failure can be told: a thread that left would leave its pipes unread.
        let tools = Tools::new()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&shared.to_pump, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("pump".to_owned())
            .stack_size(256 << 10)
            .spawn(move || run(&theirs, &epoll, tools, fd_sender.as_deref()))?;
        Ok(Pump { shared })
    }

    pub fn add(&self, streams: Vec<Stream>) -> io::Result<()> {
        let mut mail = self.shared.lock();
        for stream in &streams {
            let open = (Arc::clone(&stream.source), Arc::clone(&stream.staged));
            mail.open.entry(stream.slot.key).or_default().push(open);
        }
        mail.new.extend(streams);
        drop(mail);
        wake(&self.shared.to_pump)?;
        Ok(())
    }

    /// The runs of a task whose output is still read.
    pub fn open_of(&self, task: u32) -> Vec<Key> {
        let mail = self.shared.lock();
        let keys = mail.open.keys().copied();
        keys.filter(|key| key.task == task).collect()
    }

    /// True while there is output of this run that is not in its files yet.
    pub fn is_behind(&self, key: Key) -> bool {
        let mail = self.shared.lock();
        let mut pipes = mail.open.get(&key).into_iter().flatten();
        pipes.any(|(source, staged)| {
            // FIONREAD would wait for a thread that moves bytes from the pipe to a slow disk; poll
            // does not.
            let mut waiting = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
            staged.load(Ordering::SeqCst) > 0
                || (poll(&mut waiting, PollTimeout::ZERO).is_ok()
                    && waiting[0]
                        .revents()
                        .is_some_and(|ready| ready.contains(PollFlags::POLLIN)))
        })
    }

    /// The processes besides keeper and root that have a pipe of this run open: found by its inode
    /// in /proc.
    pub fn holders(&self, key: Key) -> Vec<i32> {
        let mail = self.shared.lock();
        let pipes = mail.open.get(&key).into_iter().flatten();
        let links: Vec<PathBuf> = pipes
            .filter_map(|(source, _)| source.inode().ok())
            .map(|inode| PathBuf::from(format!("pipe:[{inode}]")))
            .collect();
        drop(mail);
        // The root has a second hand on them.
        let ours = [std::process::id() as i32, nix::unistd::getppid().as_raw()];
        let Ok(all) = process::all() else {
            return Vec::new();
        };
        let holds = |pid: i32| {
            let entries = std::fs::read_dir(format!("/proc/{pid}/fd"));
            entries.is_ok_and(|entries| {
                entries.flatten().any(|entry| {
                    // The link only: its target may be a file of a server that does not answer.
                    std::fs::read_link(entry.path()).is_ok_and(|link| links.contains(&link))
                })
            })
        };
        let pids = all.iter().map(|stat| stat.pid);
        pids.filter(|pid| !ours.contains(pid) && holds(*pid))
            .collect()
    }

    /// Readable when there are [`events`](Self::events).
    pub fn event(&self) -> BorrowedFd<'_> {
        self.shared.to_keeper.as_fd()
    }

    pub fn events(&self) -> Vec<PumpEvent> {
        // An empty counter is no error: the events were taken before.
        let _ = self.shared.to_keeper.read();
        std::mem::take(&mut self.shared.lock().events)
    }
}

/// A stream and how its process writes.
struct Reading {
    stream: Stream,
    /// Short turns in a row, each right after the other.
    short: u32,
    last: Instant,
    /// Its pipe has room for what comes during a pause.
    is_large: bool,
}

impl Reading {
    /// Moves a turn's worth; `None` at the end of the output. One chatty process must not keep the
    /// others waiting: epoll comes back to it. True when a pause would do it good.
    fn turn(&mut self, tools: &mut Tools, fd_sender: Option<&FdSender>) -> Option<bool> {
        let mut moved = 0;
        let mut is_empty = false;
        // Only this thread knows what is on the stage: no event tells of it.
        let mut pieces = 0;
        while pieces < TURN || self.stream.is_staged() {
            pieces += 1;
            match self.stream.pump(tools) {
                Moved::Bytes(count) => moved += count,
                Moved::Nothing => {
                    is_empty = true;
                    break;
                }
                Moved::End => return None,
            }
        }
        let is_soon = self.last.elapsed() < SOON;
        self.last = Instant::now();
        if !is_empty || moved >= SHORT {
            // A pipe that was full takes more from now on.
            self.is_large = self.is_large || self.stream.expect_much(fd_sender);
            self.short = CHATTY;
        } else if is_soon {
            self.short = self.short.saturating_add(1);
        } else {
            self.short = 0;
        }
        if self.short == CHATTY && !self.is_large {
            self.is_large = self.stream.expect_much(fd_sender);
        }
        Some(self.short >= CHATTY && self.is_large && moved < SHORT)
    }
}

fn run(shared: &Shared, epoll: &Epoll, mut tools: Tools, fd_sender: Option<&FdSender>) {
    let mut streams: HashMap<u64, Reading> = HashMap::new();
    let mut next = 0u64;
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => {
                tracing::error!("the pump cannot wait: {errno}");
                return;
            }
        };
        // One that writes much needs no pause, and must not be kept waiting by those that do.
        let mut pauses = true;
        let mut is_chatty = false;
        for event in &events[..count] {
            let id = event.data();
            if id != WAKE {
                let turn = streams
                    .get_mut(&id)
                    .and_then(|one| one.turn(&mut tools, fd_sender));
                match turn {
                    Some(is_short) => {
                        pauses &= is_short;
                        is_chatty |= is_short;
                    }
                    None => finish(shared, epoll, &mut streams, id, fd_sender),
                }
                continue;
            }
            // The counter only wakes us; the mail says what for.
            let _ = shared.to_pump.read();
            let new = std::mem::take(&mut shared.lock().new);
            for stream in new {
                let interest = EpollEvent::new(EpollFlags::EPOLLIN, next);
                let added = epoll.add(&*stream.source, interest);
                let reading = Reading {
                    stream,
                    short: 0,
                    last: Instant::now(),
                    is_large: false,
                };
                let reading = streams.entry(next).insert_entry(reading).into_mut();
                let is_watched = added
                    .inspect_err(|errno| tracing::error!("the pump cannot watch a pipe: {errno}"))
                    .is_ok();
                // What a dead keeper left on its way wakes no thread.
                let is_over =
                    reading.stream.is_staged() && reading.turn(&mut tools, fd_sender).is_none();
                if !is_watched || is_over {
                    finish(shared, epoll, &mut streams, next, fd_sender);
                }
                next += 1;
            }
        }
        if pauses && is_chatty {
            pause(shared);
        }
    }
}

/// Lets output come together; mail ends it at once.
fn pause(shared: &Shared) {
    let mut fds = [PollFd::new(shared.to_pump.as_fd(), PollFlags::POLLIN)];
    if let Err(errno) = poll(&mut fds, PollTimeout::from(PAUSE_MS)) {
        tracing::debug!("pausing: {errno}");
    }
}

fn finish(
    shared: &Shared,
    epoll: &Epoll,
    streams: &mut HashMap<u64, Reading>,
    id: u64,
    fd_sender: Option<&FdSender>,
) {
    let Some(Reading { stream, .. }) = streams.remove(&id) else {
        return;
    };
    if let Some(fd_sender) = fd_sender {
        fd_sender.let_go(stream.slot);
    }
    // It may never have been added; dropping the descriptor removes it in any case.
    let _ = epoll.delete(&*stream.source);
    if stream.dropped > 0 {
        shared.tell(PumpEvent::Dropped {
            key: stream.slot.key,
            stream: stream.name,
            bytes: stream.dropped,
        });
    }
    let key = stream.slot.key;
    drop(stream);
    if !streams.values().any(|other| other.stream.slot.key == key) {
        shared.lock().open.remove(&key);
        shared.tell(PumpEvent::Finished(key));
    }
}
