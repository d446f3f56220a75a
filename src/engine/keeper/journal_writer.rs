//! The thread that makes records durable: whatever waits when a sync ends goes into the next one.
//!
//! The keeper's main thread never waits for the disk: it pushes records, asks for a flush, and
//! learns from an event how far they are on disk. Records of all journals are counted together;
//! a flush syncs every journal that has some, the group's own (task 0) first.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::{
    journal::{Compacted, Journal, Record},
    sys::{memory::trim_heap, retry::wake},
};

pub(super) struct Writer {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    progress: EventFd,
}

#[derive(Default)]
struct State {
    /// The records after number `durable` that are being written: they stay known until they are
    /// on disk, for a runner that asks.
    in_flight: Arc<Vec<Entry>>,
    /// The records after those.
    queue: Vec<Entry>,
    /// Number of the last record on disk.
    durable: u64,
    /// How many records each journal has on disk.
    counts: BTreeMap<u32, u64>,
    flush: bool,
    /// Journals that the thread takes over.
    new: Vec<(u32, Journal, Also)>,
    /// Snapshots that take the place of old records.
    compactions: Vec<(u32, Record)>,
    /// Journals that get no more records.
    finished: Vec<u32>,
    error: Option<Failure>,
}

/// A record with its task.
type Entry = (u32, Record);

/// What kept the journal from being written.
#[derive(Debug)]
struct Failure {
    message: String,
    /// Only a full disk leaves the file as it was: then the reserve may be used.
    allows_last_words: bool,
}

/// What a journal's first sync has to take along: a new file's directories.
pub(super) type Also = Option<Box<dyn FnOnce() -> io::Result<()> + Send>>;

/// How far the records are.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    pub durable: u64,
    pub error: Option<String>,
}

/// What is on disk and what is not, at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub durable: u64,
    pub counts: BTreeMap<u32, u64>,
    /// Number, task, record.
    pub queue: Vec<(u64, u32, Record)>,
}

impl Writer {
    /// Starts the thread.
    pub fn start() -> io::Result<Writer> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            progress: EventFd::from_value_and_flags(
                0,
                EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
            )?,
        });
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("journal".to_owned())
            .stack_size(128 << 10)
            .spawn(move || write(&theirs))?;
        Ok(Writer { shared })
    }

    /// Hands over the journal of `task`; `records` of it are already on disk. `also` is done once,
    /// after its first sync and as a part of it.
    pub fn add(&self, task: u32, journal: Journal, records: u64, also: Also) {
        let mut state = self.shared.lock();
        state.counts.insert(task, records);
        state.new.push((task, journal, also));
    }

    /// Queues a record and returns its number.
    pub fn push(&self, task: u32, record: Record) -> u64 {
        let mut state = self.shared.lock();
        state.queue.push((task, record));
        state.durable + (state.in_flight.len() + state.queue.len()) as u64
    }

    /// Puts a snapshot in the place of old records of `task`, soon.
    pub fn compact(&self, task: u32, snapshot: Record) {
        self.shared.lock().compactions.push((task, snapshot));
        self.shared.wake.notify_one();
    }

    /// In one look: how far all records are on disk, and each journal, and what follows.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.shared.lock();
        let first = state.durable + 1;
        let queue = state.in_flight.iter().chain(&state.queue);
        let numbered = queue.cloned().enumerate();
        Snapshot {
            durable: state.durable,
            counts: state.counts.clone(),
            queue: numbered
                .map(|(index, (task, record))| (first + index as u64, task, record))
                .collect(),
        }
    }

    /// A long queue must not cost memory for ever.
    pub fn shrink_to_fit(&self) {
        self.shared.lock().queue.shrink_to_fit();
    }

    /// Starts a sync of all that was pushed, now or when the present one ends.
    pub fn flush(&self) {
        self.shared.lock().flush = true;
        self.shared.wake.notify_one();
    }

    /// The journal of `task` is complete and on disk: give back its space ahead, and let go of it.
    pub fn finish(&self, task: u32) {
        let mut state = self.shared.lock();
        state.counts.remove(&task);
        state.finished.push(task);
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Readable when there is progress; [`progress`](Self::progress) clears it.
    pub fn event(&self) -> BorrowedFd<'_> {
        self.shared.progress.as_fd()
    }

    pub fn progress(&self) -> Progress {
        // Nothing to read is no error: progress may be asked for at any time.
        let _ = self.shared.progress.read();
        let state = self.shared.lock();
        Progress {
            durable: state.durable,
            error: state.error.as_ref().map(|error| error.message.clone()),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(shared: &Shared) {
    let mut journals: BTreeMap<u32, (Journal, Also)> = BTreeMap::new();
    loop {
        let mut state = shared.lock();
        while !state.flush && state.finished.is_empty() && state.compactions.is_empty() {
            state = shared
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.flush = false;
        for (task, journal, also) in state.new.drain(..) {
            journals.insert(task, (journal, also));
        }
        let queue = std::mem::take(&mut state.queue);
        // Of records that could not be written some may be left.
        state.in_flight = match state.in_flight.is_empty() {
            true => Arc::new(queue),
            false => Arc::new(state.in_flight.iter().cloned().chain(queue).collect()),
        };
        let in_flight = Arc::clone(&state.in_flight);
        let finished = std::mem::take(&mut state.finished);
        let compactions = std::mem::take(&mut state.compactions);
        let allowed = state.error.as_ref().map(|error| error.allows_last_words);
        drop(state);

        // Without the lock: the keeper does not wait for this.
        let mut parts = Parts::new();
        for (task, record) in in_flight.iter() {
            parts.entry(*task).or_default().push(record.clone());
        }
        let mut on_disk = BTreeMap::new();
        let written = match allowed {
            None => append(&mut journals, parts, &mut on_disk),
            Some(true) => last_words(&mut journals, parts),
            // What is on disk is unknown, and syncing again would tell nothing: it stays as it is.
            Some(false) => Ok(()),
        };
        let result = written
            .and_then(|()| match allowed {
                None => compact(&mut journals, compactions),
                Some(_) => Ok(()),
            })
            .and_then(|()| trim(&mut journals, &finished));
        let mut state = shared.lock();
        for (task, records) in &on_disk {
            if let Some(count) = state.counts.get_mut(task) {
                *count += records;
            }
        }
        match result {
            Ok(()) if allowed == Some(false) => {}
            Ok(()) => {
                state.in_flight = Arc::default();
                state.durable += in_flight.len() as u64;
            }
            Err(error) => {
                // What other journals took in before the one that failed must not be said twice.
                let unwritten = in_flight.iter();
                let unwritten = unwritten.filter(|(task, _)| !on_disk.contains_key(task));
                state.in_flight = Arc::new(unwritten.cloned().collect());
                tracing::error!("the journal cannot be written: {error}");
                let kind = error.kind();
                let full = matches!(
                    kind,
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                );
                state.error = Some(Failure {
                    message: error.to_string(),
                    allows_last_words: full && state.error.is_none(),
                });
            }
        }
        drop(state);
        if let Err(errno) = wake(&shared.progress) {
            tracing::error!("cannot tell of the journal's progress: {errno}");
        }
    }
}

/// What goes into each journal.
type Parts = BTreeMap<u32, Vec<Record>>;

/// Counts in `on_disk` what has become durable, also when a later journal fails.
fn append(
    journals: &mut BTreeMap<u32, (Journal, Also)>,
    parts: Parts,
    on_disk: &mut BTreeMap<u32, u64>,
) -> io::Result<()> {
    for (task, records) in parts {
        let count = records.len() as u64;
        let (journal, also) = open(journals, task)?;
        journal.append(records)?;
        if let Some(also) = also.take() {
            also()?;
        }
        on_disk.insert(task, count);
    }
    Ok(())
}

fn last_words(journals: &mut BTreeMap<u32, (Journal, Also)>, parts: Parts) -> io::Result<()> {
    for (task, records) in parts {
        open(journals, task)?.0.last_words(records)?;
    }
    Ok(())
}

fn compact(
    journals: &mut BTreeMap<u32, (Journal, Also)>,
    compactions: Vec<(u32, Record)>,
) -> io::Result<()> {
    let is_any = !compactions.is_empty();
    for (task, snapshot) in compactions {
        // It may be over by now.
        if let Some((journal, _)) = journals.get_mut(&task)
            && let Compacted::Not(why) = journal.compact(snapshot)?
        {
            tracing::warn!("the journal of task {task} is not compacted: {why}");
        }
    }
    if is_any {
        // The whole journal was in memory, and a busy keeper has no rest in which to give that
        // back.
        trim_heap();
    }
    Ok(())
}

fn trim(journals: &mut BTreeMap<u32, (Journal, Also)>, finished: &[u32]) -> io::Result<()> {
    for task in finished {
        if let Some((mut journal, _)) = journals.remove(task) {
            journal.trim()?;
        }
    }
    Ok(())
}

fn open(
    journals: &mut BTreeMap<u32, (Journal, Also)>,
    task: u32,
) -> io::Result<&mut (Journal, Also)> {
    journals
        .get_mut(&task)
        .ok_or_else(|| io::Error::other(format!("task {task} has no journal")))
}
