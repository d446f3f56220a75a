//! Appending to a journal: space ahead, one frame, one fdatasync.
//!
//! Frames overwrite zeros that were written ahead: an overwrite needs no allocation, so the sync
//! is cheaper, and the last records still fit when the disk is full.

use std::{
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt, PermissionsExt},
    },
};

use nix::{
    fcntl::{Flock, FlockArg, OFlag, openat},
    sys::stat::Mode,
};

use super::{
    frame::{PREAMBLE, encode, preamble},
    records::Record,
};

/// Zeros written ahead at a time.
const AHEAD: u64 = 64 << 10;
/// The first piece is small: most tasks are.
const FIRST: u64 = 16 << 10;
/// Space that only the last words of a task may use.
const RESERVE: u64 = 4 << 10;

/// The file under `directory` named `name`, opened without following links and locked, or `None`
/// when another process holds it.
///
/// # Errors
/// What open and flock say.
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
pub struct Journal {
    file: File,
    end: u64,
    allocated: u64,
}

impl Journal {
    /// Begins an empty journal and leaves the sync to the first [`append`](Self::append).
    ///
    /// # Errors
    /// What the system says (a full disk, mostly).
    pub fn create(file: File) -> io::Result<Journal> {
        file.set_permissions(PermissionsExt::from_mode(0o600))?;
        file.set_len(0)?;
        let mut first = vec![0; FIRST as usize];
        first[..PREAMBLE].copy_from_slice(&preamble());
        file.write_all_at(&first, 0)?;
        Ok(Journal {
            file,
            end: PREAMBLE as u64,
            allocated: FIRST,
        })
    }

    /// Goes on after `end`, cutting whatever stands there, and makes what stands before it
    /// durable: an earlier writer may have died between its write and its sync.
    ///
    /// # Errors
    /// What the system says.
    pub fn resume(file: File, end: u64) -> io::Result<Journal> {
        file.set_len(end)?;
        file.sync_data()?;
        Ok(Journal {
            file,
            end,
            allocated: end,
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
        let needed = self.end + frame.len() as u64 + RESERVE;
        if needed > self.allocated {
            let target = needed.next_multiple_of(AHEAD);
            let zeros = vec![0; (target - self.allocated) as usize];
            self.file.write_all_at(&zeros, self.allocated)?;
            self.allocated = target;
        }
        self.write(&frame)
    }

    /// Writes a last frame into the reserve, after an [`append`](Self::append) failed for want of
    /// space.
    ///
    /// # Errors
    /// What the system says, or `StorageFull` when not even the reserve is there.
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
    /// What ftruncate says.
    pub fn trim(&mut self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.allocated = self.end;
        Ok(())
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.file.write_all_at(frame, self.end)?;
        self.file.sync_data()?;
        self.end += frame.len() as u64;
        Ok(())
    }
}
