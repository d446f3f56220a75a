//! The thread that makes records durable: whatever waits when a sync ends goes into the next one.
//!
//! The keeper's main thread never waits for the disk: it pushes records, asks for a flush, and
//! learns from an event how far the journal is on disk.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::journal::{Journal, Record};

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    progress: EventFd,
}

#[derive(Debug, Default)]
struct State {
    /// Everything that is not on disk yet: the records after number `durable`.
    queue: VecDeque<Record>,
    /// Number of the last record on disk.
    durable: u64,
    flush: bool,
    trim: bool,
    error: Option<Failure>,
}

/// What kept the journal from being written.
#[derive(Debug)]
struct Failure {
    message: String,
    /// Only a full disk leaves the file as it was: then the reserve may be used.
    allows_last_words: bool,
}

/// What the first sync has to take along: a new file's directories.
pub(super) type Also = Option<Box<dyn FnOnce() -> io::Result<()> + Send>>;

/// How far the journal is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    pub durable: u64,
    pub error: Option<String>,
}

impl Writer {
    /// Starts the thread; `records` are already on disk. `also` is done once, after the first sync
    /// and as a part of it.
    pub fn start(journal: Journal, records: u64, also: Also) -> io::Result<Writer> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                durable: records,
                ..State::default()
            }),
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
            .spawn(move || write(&theirs, journal, also))?;
        Ok(Writer { shared })
    }

    /// Queues a record and returns its number.
    pub fn push(&self, record: Record) -> u64 {
        let mut state = self.shared.lock();
        state.queue.push_back(record);
        state.durable + state.queue.len() as u64
    }

    /// In one look: how many records are on disk, and those that follow them, with their numbers.
    pub fn snapshot(&self) -> (u64, Vec<(u64, Record)>) {
        let state = self.shared.lock();
        let first = state.durable + 1;
        let numbered = state.queue.iter().cloned().enumerate();
        let queue = numbered.map(|(index, record)| (first + index as u64, record));
        (state.durable, queue.collect())
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

    /// After everything is on disk, give back the space ahead.
    pub fn trim(&self) {
        self.shared.lock().trim = true;
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

fn write(shared: &Shared, mut journal: Journal, mut also: Also) {
    loop {
        let mut state = shared.lock();
        while !(state.flush || state.trim) {
            state = shared
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.flush = false;
        // They stay in the queue until they are on disk, for a runner that asks.
        let records: Vec<Record> = state.queue.iter().cloned().collect();
        let count = records.len();
        let trim = std::mem::take(&mut state.trim) && records.is_empty();
        let allowed = state.error.as_ref().map(|error| error.allows_last_words);
        drop(state);

        let result = match allowed {
            _ if count == 0 => Ok(()),
            None => journal
                .append(records)
                .and_then(|()| also.take().map_or(Ok(()), |also| also())),
            Some(true) => journal.last_words(records),
            // What is on disk is unknown, and syncing again would tell nothing: it stays as it is.
            Some(false) => Ok(()),
        };
        let result = match trim && result.is_ok() {
            true => journal.trim(),
            false => result,
        };
        let mut state = shared.lock();
        match result {
            Ok(()) if allowed == Some(false) => {}
            Ok(()) => {
                state.queue.drain(..count);
                state.durable += count as u64;
            }
            Err(error) => {
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
        if let Err(errno) = shared.progress.write(1) {
            tracing::error!("cannot tell of the journal's progress: {errno}");
        }
    }
}
