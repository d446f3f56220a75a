//! The files of one rotated log: which of them come after the one that is being read.
//!
//! The keeper rotates a log by renaming. Beginning with the oldest file, `stdout.1` becomes
//! `stdout.2` and so on; then `stdout` becomes `stdout.1`; then a new `stdout` is made. So
//!
//! * the order of the files never changes, and the number of a file only grows;
//! * while a log is being rotated, one name between others may be missing for a moment;
//! * the oldest file vanishes when another one takes its name.
//!
//! Names change while they are looked at, so a file is known by its inode. Two files can have the
//! same inode one after the other, but not while the first one is open.

use std::{
    collections::VecDeque,
    fs::{File, Metadata},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Numbers that a file of a log may have, at most.
const NUMBERS: u32 = 1000;
/// Looks at a log that is being rotated, at most; then the caller has other things to do.
const LOOKS: usize = 10;
/// Files that are held open at a time, at most.
const HELD: usize = 16;
/// Bytes of the files that are held open, at most, unless one file has more by itself: a deleted
/// file keeps its place on the disk as long as it is open.
const HELD_BYTES: u64 = 1 << 20;

/// What comes after a file.
#[derive(Debug)]
pub(super) enum Newer {
    /// Nothing: it is the one that is written to.
    IsNewest,
    /// There is no file that is written to: for a moment, or because the process took it away.
    Nothing,
    /// The names changed too often to be sure. Nothing is lost by looking again.
    Unsettled,
    /// Some files, and perhaps more behind them.
    Files {
        /// The files, the oldest first.
        files: VecDeque<File>,
        /// How many there are behind them.
        more: usize,
        /// What may be missing before the first of `files`.
        gap: Gap,
    },
}

/// What may be missing between a file and those that are newer and still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// No file is missing.
    None,
    /// The file has no name any more, so others may have come and gone since.
    Unknown,
    /// A file is there and cannot be read.
    Unreadable,
}

/// Opens a file of a log for reading.
///
/// # Errors
/// What the system says; `InvalidInput` when it is no plain file.
pub(super) fn open_plain(path: &Path) -> io::Result<File> {
    // The sandbox belongs to its processes: what they planted there must not hang or mislead a
    // client.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// The files of the log called `path` that are newer than `held`; without `held`, all of them.
pub(super) fn newer_than(path: &Path, held: Option<&File>) -> Newer {
    let held = held.and_then(|file| file.metadata().ok());
    let held = held.map(|meta| meta.ino());
    for _ in 0..LOOKS {
        // Without the newest there is nothing to go by. When it comes, a watch on the directory
        // tells.
        let Ok(newest) = open_plain(path) else {
            return Newer::Nothing;
        };
        let Ok(meta) = newest.metadata() else {
            return Newer::Nothing;
        };
        if held == Some(meta.ino()) {
            return Newer::IsNewest;
        }
        if let Some(newer) = look(path, held, newest, meta.ino()) {
            return newer;
        }
    }
    Newer::Unsettled
}

/// One look; `None` when the log was rotated meanwhile.
fn look(path: &Path, held: Option<u64>, newest: File, newest_inode: u64) -> Option<Newer> {
    let (chain, is_found) = chain(path, held, newest_inode);
    let mut files = VecDeque::new();
    let mut bytes = 0;
    let mut gap = match held.is_some() && !is_found {
        true => Gap::Unknown,
        false => Gap::None,
    };
    let mut newest = Some(newest);
    let mut more = chain.len();
    for (number, inode) in chain.into_iter().rev().take(HELD) {
        let opened = match number {
            0 => newest.take()?,
            _ => match open_plain(&name(path, number)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                // The process has closed its own log to us.
                Err(error) => {
                    tracing::info!("{}: {error}", name(path, number).display());
                    gap = Gap::Unreadable;
                    more -= 1;
                    continue;
                }
            },
        };
        let meta = opened.metadata().ok()?;
        if meta.ino() != inode {
            return None;
        }
        bytes += meta.len();
        if bytes > HELD_BYTES && !files.is_empty() {
            break;
        }
        files.push_back(opened);
        more -= 1;
    }
    // As long as the newest file is the same, no rotation has ended, and none of the names was
    // skipped.
    let is_whole = plain(path)?.ino() == newest_inode;
    is_whole.then_some(Newer::Files { files, more, gap })
}

/// Numbers and inodes from the newest file to the one before `held`, or to the oldest; and whether
/// `held` is among them.
fn chain(path: &Path, held: Option<u64>, newest: u64) -> (Vec<(u32, u64)>, bool) {
    let mut chain = vec![(0, newest)];
    let mut missing = 0;
    for number in 1..=NUMBERS {
        match plain(&name(path, number)).map(|meta| meta.ino()) {
            Some(inode) if Some(inode) == held => return (chain, true),
            Some(inode) => {
                missing = 0;
                // It was renamed between two looks.
                if chain.last().is_some_and(|(_, last)| *last == inode) {
                    chain.pop();
                }
                chain.push((number, inode));
            }
            // One may be missing while the log is rotated; two are its end.
            None => {
                missing += 1;
                if missing == 2 {
                    break;
                }
            }
        }
    }
    (chain, false)
}

fn plain(path: &Path) -> Option<Metadata> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    meta.is_file().then_some(meta)
}

fn name(path: &Path, number: u32) -> PathBuf {
    match number {
        0 => path.to_owned(),
        number => PathBuf::from(format!("{}.{number}", path.display())),
    }
}
