//! The scheduler's journal: the lock that makes the scheduler the only one, the replay, and a
//! thread that writes.
//!
//! All facts that are waiting are written as one frame and made durable by one sync. The journal
//! and its format are those of tasks (`journal/`).

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag, open, openat},
    sys::stat::Mode,
};
use prost::Message;
use thiserror::Error;

use super::core::{Fact, Flapping, Kind as FactKind, State};
use crate::{
    journal::{
        Beyond, Compacted, FileStorage, HEADER_VERSION, Header, Journal, JournalError, Kind,
        Record, Replay, Snapshot, check_understood, read,
    },
    protocols::dewar::scheduler::Serial,
    sys::clock::Moment,
};

const JOURNAL: &str = "journal";
const LOCK: &str = "lock";
/// The task id in the journal's header.
const NAME: &str = "scheduler";
/// A journal with fewer new facts is not compacted.
const FEW: u64 = 10_000;
/// The largest frame in bytes, unless a single decision is larger.
const LARGE_FRAME: usize = 8 << 20;

/// Why the journal cannot be used.
#[derive(Debug, Error)]
pub enum FactJournalError {
    /// A system call failed.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What could not be done.
        what: &'static str,
        /// The path that it was about.
        path: PathBuf,
        /// Why it could not be done.
        source: io::Error,
    },
    /// The journal is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal is a later version's.
    #[error(transparent)]
    Beyond(#[from] Beyond),
    /// The journal has something that this version does not understand.
    #[error("the journal has what this dewar cannot read, so its jobs are not touched: {0}")]
    Unreadable(String),
}

/// What is asked of the thread.
enum Order {
    Write(Vec<Record>),
    /// Replaces everything that was written before this order.
    Compact(Box<Record>),
}

/// What the thread reports.
#[derive(Debug)]
pub enum Written {
    /// This many facts are durable, in all.
    Durable(u64),
    /// Nothing can be made durable any more, for this reason.
    Failed(String),
}

/// The open journal, written by a thread of its own.
pub struct FactJournal {
    orders: mpsc::Sender<Order>,
    /// Facts ever handed to the thread.
    pushed: u64,
    /// Records in the journal, with the header and all records that snapshots stand for.
    records: u64,
    /// Records since the last snapshot.
    fresh: u64,
    /// Facts that the last snapshot had.
    needed: u64,
}

/// The scheduler's directory within a root.
pub fn directory(root: &Path) -> PathBuf {
    root.join("scheduler")
}

/// A directory whose lock this scheduler has.
#[derive(Debug)]
pub struct Locked {
    path: PathBuf,
    directory: OwnedFd,
    lock: Flock<OwnedFd>,
}

/// Takes the lock of the directory. If another scheduler has it, `waits` is called, and this
/// returns when that scheduler has ended.
///
/// # Errors
/// If the directory cannot be made or locked.
pub fn lock(path: &Path, waits: impl FnOnce()) -> Result<Locked, FactJournalError> {
    let fail = |what| {
        let path = path.to_path_buf();
        move |source| FactJournalError::Io { what, path, source }
    };
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(fail("make"))?;
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = open(path, flags, Mode::empty()).map_err(io::Error::from);
    let directory = directory.map_err(fail("open"))?;
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let file = openat(&directory, LOCK, flags, Mode::from_bits_truncate(0o600));
    let file = file
        .map_err(io::Error::from)
        .map_err(fail("open the lock of"))?;
    let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((file, Errno::EWOULDBLOCK)) => {
            waits();
            wait_for(file)
        }
        Err((_, errno)) => Err(errno),
    };
    Ok(Locked {
        path: path.to_path_buf(),
        directory,
        lock: lock.map_err(io::Error::from).map_err(fail("lock"))?,
    })
}

fn wait_for(mut file: OwnedFd) -> Result<Flock<OwnedFd>, Errno> {
    loop {
        match Flock::lock(file, FlockArg::LockExclusive) {
            Err((same, Errno::EINTR)) => file = same,
            Err((_, errno)) => return Err(errno),
            Ok(lock) => return Ok(lock),
        }
    }
}

impl Locked {
    /// Replays the journal and starts the thread that writes it, which calls `tell`.
    ///
    /// # Errors
    /// If the journal cannot be opened, is damaged, or has records of a later version.
    pub fn open(
        self,
        now: Moment,
        flapping: &Flapping,
        tell: impl Fn(Written) + Send + 'static,
    ) -> Result<(FactJournal, State), FactJournalError> {
        let path = self.path.join(JOURNAL);
        let fail = |what| {
            let path = path.clone();
            move |source| FactJournalError::Io { what, path, source }
        };
        let copy = self.directory.as_fd().try_clone_to_owned();
        let storage = copy.and_then(|directory| FileStorage::open(directory, JOURNAL));
        let storage = storage.map_err(fail("open"))?;
        let opened = match read(&path)? {
            None => Opened::new(storage, now, flapping).map_err(fail("write"))?,
            Some(replay) => {
                let state = replayed(&replay, flapping)?;
                let total = replay.total();
                Opened {
                    state,
                    records: total,
                    fresh: total - replay.compacted_through(),
                    journal: Journal::resume(storage, replay.end).map_err(fail("write"))?,
                }
            }
        };
        let (orders, receive) = mpsc::channel();
        let writer = Writer {
            journal: opened.journal,
            durable: 0,
            tell: Box::new(tell),
            _lock: self.lock,
        };
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&receive))
            .map_err(fail("start a thread for"))?;
        let store = FactJournal {
            orders,
            pushed: 0,
            records: opened.records,
            fresh: opened.fresh,
            needed: 0,
        };
        Ok((store, opened.state))
    }
}

/// A journal with the state that its facts make.
struct Opened {
    journal: Journal<FileStorage>,
    state: State,
    /// Records in the journal, with the header and all records that snapshots stand for.
    records: u64,
    /// Records since the last snapshot.
    fresh: u64,
}

impl Opened {
    /// Creates the journal.
    fn new(storage: FileStorage, now: Moment, flapping: &Flapping) -> io::Result<Opened> {
        let mut journal = Journal::create(storage)?;
        let header = Header {
            version: HEADER_VERSION,
            task_id: NAME.to_owned(),
            ..Header::default()
        };
        // Two schedulers of one cluster must not give the same ids.
        let serial = Serial {
            serial: first_serial(),
        };
        let first = Fact {
            kind: Some(FactKind::Serial(serial)),
        };
        let mut state = State::default();
        state.apply(&first, now.wall_us / 1000, flapping);
        let header = Record::new(now, Kind::Header(header));
        let first = Record::new(now, Kind::Fact(first));
        journal.append(vec![header, first])?;
        Ok(Opened {
            journal,
            state,
            records: 2,
            fresh: 0,
        })
    }
}

/// The state that the facts of a journal make.
fn replayed(replay: &Replay, flapping: &Flapping) -> Result<State, FactJournalError> {
    if let Some((offset, why)) = &replay.torn {
        tracing::warn!("the journal's end is cut at byte {offset}: {why}");
    }
    if replay.header.task_id != NAME {
        let what = format!("it is the journal of {:?}", replay.header.task_id);
        return Err(FactJournalError::Unreadable(what));
    }
    check_understood(&replay.header, &replay.records)?;
    let mut state = State::default();
    for record in &replay.records {
        match &record.kind {
            Some(Kind::Fact(fact)) => state.apply(fact, record.wall_us / 1000, flapping),
            Some(Kind::Header(_) | Kind::Snapshot(_)) => {}
            // A later version says that it may be passed over.
            None if record.passable => {}
            _ => state.unreadable = Some("a record of a later version".to_owned()),
        }
    }
    match state.unreadable {
        Some(why) => Err(FactJournalError::Unreadable(why)),
        None => Ok(state),
    }
}

impl FactJournal {
    /// Hands facts of `now` over. They are durable when [`Written::Durable`] reaches the number
    /// that is returned.
    pub fn push(&mut self, facts: Vec<Fact>, now: Moment) -> u64 {
        if facts.is_empty() {
            return self.pushed;
        }
        let count = facts.len() as u64;
        (self.pushed, self.records) = (self.pushed + count, self.records + count);
        self.fresh += count;
        let records = facts
            .into_iter()
            .map(|fact| Record::new(now, Kind::Fact(fact)));
        self.order(Order::Write(records.collect()));
        self.pushed
    }

    /// True when most of the journal is history.
    pub fn wants_snapshot(&self) -> bool {
        self.fresh > FEW.max(self.needed * 2)
    }

    /// Replaces everything that was pushed by a snapshot of the state.
    pub fn compact(&mut self, state: &State, now: Moment) {
        let facts = state.snapshot(now.wall_us / 1000);
        self.needed = facts.len() as u64;
        self.fresh = 0;
        let kept = facts.into_iter().map(|(at, fact)| {
            let at = Moment {
                boot_us: 0,
                wall_us: at * 1000,
            };
            Record::new(at, Kind::Fact(fact))
        });
        let snapshot = Snapshot {
            dropped: Vec::new(),
            kept: kept.collect(),
            through: self.records,
        };
        let record = Record::new(now, Kind::Snapshot(snapshot));
        self.order(Order::Compact(Box::new(record)));
        // The snapshot is a record without a number of its own; the records that it keeps have
        // theirs.
    }

    fn order(&self, order: Order) {
        // A thread that has ended has reported why.
        if self.orders.send(order).is_err() {
            tracing::debug!("the journal's thread is gone");
        }
    }
}

/// What the thread owns.
struct Writer {
    journal: Journal,
    durable: u64,
    tell: Box<dyn Fn(Written) + Send>,
    /// The lock is held until the last byte is written.
    _lock: Flock<OwnedFd>,
}

impl Writer {
    fn run(mut self, orders: &mpsc::Receiver<Order>) {
        while let Ok(first) = orders.recv() {
            let mut decisions = Vec::new();
            let mut next = Some(first);
            let mut snapshot = None;
            while let Some(order) = next {
                match order {
                    Order::Write(records) => decisions.push(records),
                    Order::Compact(record) => {
                        snapshot = Some(record);
                        break;
                    }
                }
                next = orders.try_recv().ok();
            }
            let written = self.write(decisions, snapshot);
            if let Err(error) = written {
                return (self.tell)(Written::Failed(error.to_string()));
            }
        }
    }

    fn write(
        &mut self,
        decisions: Vec<Vec<Record>>,
        snapshot: Option<Box<Record>>,
    ) -> io::Result<()> {
        for frame in frames(decisions) {
            self.durable += frame.len() as u64;
            self.journal.append(frame)?;
            (self.tell)(Written::Durable(self.durable));
        }
        if let Some(snapshot) = snapshot
            && let Compacted::Not(why) = self.journal.compact(*snapshot)?
        {
            tracing::warn!("the journal is not compacted: {why}");
        }
        Ok(())
    }
}

/// Somewhere among a hundred million starting points, each with room for a million tasks.
fn first_serial() -> u64 {
    let random = uuid::Uuid::new_v4().as_u128();
    (random % 100_000_000) as u64 * 1_000_000
}

/// Puts decisions into frames up to the largest size; a decision is never divided.
fn frames(decisions: Vec<Vec<Record>>) -> Vec<Vec<Record>> {
    let mut frames: Vec<Vec<Record>> = Vec::new();
    let mut size = 0;
    for decision in decisions {
        let length: usize = decision.iter().map(Message::encoded_len).sum();
        match frames.last_mut() {
            Some(frame) if size + length <= LARGE_FRAME => {
                frame.extend(decision);
                size += length;
            }
            _ => {
                frames.push(decision);
                size = length;
            }
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Condvar, Mutex};

    use super::*;
    use crate::mesos::scheduler::core::Kind as Word;
    use crate::protocols::dewar::scheduler::{Framework, Quota};

    fn fact(kind: Word) -> Fact {
        Fact { kind: Some(kind) }
    }

    type Shared = Arc<(Mutex<u64>, Condvar)>;

    fn opened(path: &Path, durable: &Shared) -> (FactJournal, State) {
        let durable = Arc::clone(durable);
        let tell = move |written| match written {
            Written::Durable(count) => {
                *durable.0.lock().unwrap() = count;
                durable.1.notify_all();
            }
            Written::Failed(why) => panic!("{why}"),
        };
        let flapping = crate::mesos::scheduler::core::Settings::default().flapping;
        // The thread of the scheduler before may still hold the lock.
        let locked = lock(path, || ()).unwrap();
        locked.open(Moment::default(), &flapping, tell).unwrap()
    }

    fn wait(durable: &Shared, count: u64) {
        let guard = durable.0.lock().unwrap();
        drop(durable.1.wait_while(guard, |seen| *seen < count).unwrap());
    }

    #[test]
    fn what_is_durable_is_there_again_also_after_a_snapshot() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("s");
        let quota = |index: u64| {
            fact(Word::Quota(Quota {
                role: format!("role{index}"),
                cpus: index,
                ..Quota::default()
            }))
        };
        let durable = Shared::default();
        let (mut store, state) = opened(&path, &durable);
        assert!(state.framework.is_none());
        let id = "f-1".to_owned();
        store.push(
            vec![fact(Word::Framework(Framework { id }))],
            Moment::default(),
        );
        let last = store.push((0..5).map(quota).collect(), Moment::default());
        wait(&durable, last);
        drop(store);

        let durable = Shared::default();
        let (mut store, mut state) = opened(&path, &durable);
        assert_eq!(state.framework.as_deref(), Some("f-1"));
        assert_eq!(state.quotas.len(), 5);
        for round in 0..2 {
            store.compact(&state, Moment::default());
            let more = quota(10 + round);
            state.apply(
                &more,
                0,
                &crate::mesos::scheduler::core::Settings::default().flapping,
            );
            let last = store.push(vec![more], Moment::default());
            wait(&durable, last);
        }
        drop(store);
        let (_store, state) = opened(&path, &Shared::default());
        assert_eq!(state.quotas.len(), 7);
    }
}
