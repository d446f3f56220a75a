//! Appending to a journal: space ahead, one frame, one sync; and putting a snapshot in the place of
//! old records.
//!
//! Frames overwrite zeros that were written ahead: an overwrite needs no allocation, so the sync
//! is cheaper, and the last records still fit when the disk is full.

use std::{io, path::Path};

use nix::{
    fcntl::{Flock, FlockArg, OFlag, openat},
    sys::stat::Mode,
};
use std::os::fd::OwnedFd;

use super::{
    checksummed_frame::{FRAME_HEADER, MAX_PAYLOAD, PREAMBLE, encode, preamble},
    read::parse,
    records::{Kind, Record},
    storage::{FileStorage, Storage},
};

/// Bytes of zeros that are written ahead at a time.
const AHEAD: u64 = 64 << 10;
/// Bytes of the first piece of zeros: small, because most tasks are.
const FIRST: u64 = 16 << 10;
/// Bytes that only the last records of a task on a full disk may use.
const RESERVE: u64 = 4 << 10;

/// The file under `directory` named `name`, opened without following links and locked, or `None`
/// when another process holds it.
///
/// # Errors
/// The error of open or flock.
pub fn open_locked(directory: &OwnedFd, name: &str) -> io::Result<Option<Flock<OwnedFd>>> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let fd = openat(directory, name, flags, Mode::from_bits_truncate(0o600))?;
    match Flock::lock(fd, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => Ok(Some(locked)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// A journal open for appending.
#[derive(Debug)]
pub struct Journal<S: Storage = FileStorage> {
    storage: S,
    end: u64,
    allocated: u64,
    /// Not even the preamble is written: it goes with the first frame, in one piece, so that no
    /// crash leaves the one without the other.
    is_empty: bool,
}

/// What became of a compaction.
#[derive(Debug)]
pub enum Compacted {
    /// The snapshot is in its place.
    Done,
    /// The journal is as it was, for this reason.
    Not(String),
}

impl<S: Storage> Journal<S> {
    /// Begins an empty journal and leaves the sync to the first [`append`](Self::append).
    ///
    /// # Errors
    /// The error of the system call: a full disk, mostly.
    pub fn create(mut storage: S) -> io::Result<Journal<S>> {
        storage.set_len(0)?;
        storage.write_at(&[0; FIRST as usize], 0)?;
        Ok(Journal {
            storage,
            end: PREAMBLE as u64,
            allocated: FIRST,
            is_empty: true,
        })
    }

    /// Goes on after `end`, cutting whatever stands there, and makes what stands before it
    /// durable: an earlier writer may have died between its write and its sync.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn resume(mut storage: S, end: u64) -> io::Result<Journal<S>> {
        storage.set_len(end)?;
        storage.sync()?;
        Ok(Journal {
            storage,
            end,
            allocated: end,
            is_empty: false,
        })
    }

    /// Where the next frame goes.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Writes `records` as one frame and waits until they are on disk.
    ///
    /// # Errors
    /// After any error the journal must not be appended to again: what is on disk is unknown. Only
    /// [`last_words`](Self::last_words) is allowed.
    pub fn append(&mut self, records: Vec<Record>) -> io::Result<()> {
        let frame = encode(records, self.end);
        if frame.len() - FRAME_HEADER > MAX_PAYLOAD {
            // A reader would take a longer frame for damage.
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.extend(self.end + frame.len() as u64 + RESERVE)?;
        self.write(&frame)
    }

    /// Takes space up to `needed` at least.
    fn extend(&mut self, needed: u64) -> io::Result<()> {
        if needed > self.allocated {
            let target = needed.next_multiple_of(AHEAD);
            let zeros = vec![0; (target - self.allocated) as usize];
            self.storage.write_at(&zeros, self.allocated)?;
            self.allocated = target;
        }
        Ok(())
    }

    /// Writes a last frame into the reserve, after an [`append`](Self::append) failed for want of
    /// space.
    ///
    /// # Errors
    /// The error of the system call, or `StorageFull` when not even the reserve is there.
    pub fn last_words(&mut self, records: Vec<Record>) -> io::Result<()> {
        let frame = encode(records, self.end);
        if self.end + frame.len() as u64 > self.allocated {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.write(&frame)
    }

    /// Gives back the space ahead: nothing will be appended any more.
    ///
    /// # Errors
    /// The error of ftruncate.
    pub fn trim(&mut self) -> io::Result<()> {
        self.storage.set_len(self.end)?;
        self.allocated = self.end;
        Ok(())
    }

    /// Puts `snapshot`, a record of that kind, in the place of the records that it stands for. What
    /// was appended after those is kept.
    ///
    /// # Errors
    /// As of [`append`](Self::append). That the replacement cannot be written is no error: then
    /// nothing has changed.
    pub fn compact(&mut self, snapshot: Record) -> io::Result<Compacted> {
        let Some(Kind::Snapshot(content)) = &snapshot.kind else {
            return Ok(Compacted::Not("it is no snapshot".to_owned()));
        };
        let through = content.through;
        let bytes = self.storage.read()?;
        let replay = match parse(&bytes[..bytes.len().min(self.end as usize)], Path::new("")) {
            Ok(Some(replay)) => replay,
            Ok(None) => return Ok(Compacted::Not("the journal is empty".to_owned())),
            Err(error) => return Ok(Compacted::Not(error.to_string())),
        };
        if through <= replay.compacted_through() || through > replay.total() {
            let why = format!("its snapshot of {through} records does not fit");
            return Ok(Compacted::Not(why));
        }
        let mut records = replay.records;
        let rest = records.split_off(replay.numbering.index(through));
        records.truncate(1);
        let written = self.storage.fresh().and_then(|fresh| {
            let mut journal = Journal::create(fresh)?;
            for frame in [records, vec![snapshot], rest] {
                if !frame.is_empty() {
                    let frame = encode(frame, journal.end);
                    if frame.len() > MAX_PAYLOAD {
                        return Err(io::ErrorKind::FileTooLarge.into());
                    }
                    journal.put(&frame)?;
                }
            }
            // The last records must fit also on a disk that is full by then.
            journal.extend(journal.end + RESERVE)?;
            journal.storage.sync()?;
            Ok(journal)
        });
        let fresh = match written {
            Ok(fresh) => fresh,
            Err(error) => return Ok(Compacted::Not(error.to_string())),
        };
        self.storage.supplant(fresh.storage)?;
        (self.end, self.allocated) = (fresh.end, fresh.allocated);
        self.is_empty = false;
        Ok(Compacted::Done)
    }

    /// The storage that holds the journal.
    #[cfg(test)]
    pub(super) fn into_storage(self) -> S {
        self.storage
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.put(frame)?;
        self.storage.sync()
    }

    /// Writes a frame and leaves the sync for later.
    fn put(&mut self, frame: &[u8]) -> io::Result<()> {
        match std::mem::take(&mut self.is_empty) {
            true => {
                let first = [&preamble()[..], frame].concat();
                self.storage.write_at(&first, 0)?;
            }
            false => self.storage.write_at(frame, self.end)?,
        }
        self.end += frame.len() as u64;
        self.allocated = self.allocated.max(self.end);
        Ok(())
    }
}
