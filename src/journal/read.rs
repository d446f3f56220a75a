//! Reading a journal: every record, in order, or the offset of what is wrong.
//!
//! A frame that does not check is a torn tail when no whole frame follows it (it was never made
//! durable, so no process acted upon it) and corruption otherwise.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    checksummed_frame::{
        FILE_MAGIC, FORMAT_VERSION, Found, PREAMBLE, decode, next_frame, preamble,
    },
    records::{Header, Kind, Record},
};

/// Why a journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The file cannot be opened or read.
    #[error("cannot read the journal {path}: {source}")]
    Io {
        /// The journal's file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// Another user than its owner could have written it.
    #[error("the journal {path} is not trusted: {why}")]
    Untrusted {
        /// The journal's file.
        path: PathBuf,
        /// What lets another user write it.
        why: String,
    },
    /// The file does not begin as a journal does.
    #[error("{path} is not a journal: {why}")]
    NotAJournal {
        /// The journal's file.
        path: PathBuf,
        /// What is wrong with its first bytes.
        why: String,
    },
    /// A later version wrote it in another format. That says nothing against what is in it.
    #[error(
        "the journal {path} has format version {version}, and this dewar ({}) reads up to \
         {FORMAT_VERSION}: a later dewar can look after its task",
        env!("CARGO_PKG_VERSION")
    )]
    Later {
        /// The journal's file.
        path: PathBuf,
        /// The version that its first bytes name.
        version: u32,
    },
    /// There is damage that is not a torn tail.
    #[error("the journal {path} is corrupt at offset {offset}: {why}")]
    Corrupt {
        /// The journal's file.
        path: PathBuf,
        /// Where the damage begins, in bytes.
        offset: u64,
        /// What does not hold there.
        why: String,
    },
}

/// Everything that is in a journal.
#[derive(Debug)]
pub struct Replay {
    /// The first record.
    pub header: Header,
    /// Every record, the header's first. After a compaction: the header, a snapshot that tells what
    /// was dropped, what it kept, and what came later.
    pub records: Vec<Record>,
    /// How `records` stand to the numbers that records have.
    pub numbering: Numbering,
    /// Where the next frame goes.
    pub end: u64,
    /// Bytes after `end` that are a torn frame: to be cut.
    pub torn: Option<(u64, &'static str)>,
}

impl Replay {
    /// A journal of which nothing is on disk yet.
    pub fn of_header(header: Header) -> Replay {
        Replay {
            header,
            records: Vec::new(),
            numbering: Numbering::default(),
            end: 0,
            torn: None,
        }
    }
}

/// Records are counted from the journal's beginning, also those that a compaction dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbering {
    /// The number of records that the snapshot stands for.
    through: u64,
    /// The number of those records that the snapshot kept.
    listed: u64,
}

impl Numbering {
    /// How many of the records that are there are among the first `count`.
    pub fn index(self, count: u64) -> usize {
        (count.max(self.through) - self.through + self.listed) as usize
    }

    /// The number of records up to this index.
    pub fn number(self, index: usize) -> u64 {
        (index as u64).max(self.listed) - self.listed + self.through
    }
}

impl Replay {
    /// How many records there ever were.
    pub fn total(&self) -> u64 {
        self.numbering.number(self.records.len())
    }

    /// True when a later version has written records that this one may pass over.
    pub fn has_unknown(&self) -> bool {
        self.records.iter().any(|record| record.kind.is_none())
    }

    /// How many of them the present snapshot stands for.
    pub fn compacted_through(&self) -> u64 {
        self.numbering.through
    }
}

/// Reads the journal at `path`. `Ok(None)`: it exists but its first frame never became durable, so
/// the task never began.
///
/// # Errors
/// See [`JournalError`]. A torn tail is not an error.
pub fn read(path: &Path) -> Result<Option<Replay>, JournalError> {
    read_of(path, nix::unistd::geteuid().as_raw())
}

/// As [`read`], of a journal that `owner` must own instead of this user.
///
/// # Errors
/// See [`JournalError`].
pub fn read_of(path: &Path, owner: u32) -> Result<Option<Replay>, JournalError> {
    let file = File::open(path).map_err(|source| JournalError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    // A reader without the lock may read while the keeper writes, and see a later page before an
    // earlier one. It believes in damage only when a second look finds the very same.
    const LOOKS: usize = 10;
    let mut before = None;
    let mut result = read_file(&file, path, owner);
    for _ in 0..LOOKS {
        match &result {
            Err(JournalError::Corrupt { offset, .. }) if before != Some(*offset) => {
                before = Some(*offset);
                result = read_file(&file, path, owner);
            }
            _ => break,
        }
    }
    result
}

/// As [`read_of`], from an open file; `path` is for messages.
///
/// # Errors
/// See [`JournalError`].
pub fn read_file(mut file: &File, path: &Path, owner: u32) -> Result<Option<Replay>, JournalError> {
    let io_error = |source| JournalError::Io {
        path: path.to_path_buf(),
        source,
    };
    let meta = file.metadata().map_err(io_error)?;
    trusted(meta.uid(), owner, meta.mode(), path)?;
    let mut bytes = Vec::with_capacity(meta.len() as usize);
    io::Seek::seek(&mut file, io::SeekFrom::Start(0)).map_err(io_error)?;
    // Not beyond its size of this moment: what is appended meanwhile is for the next look.
    file.take(meta.len())
        .read_to_end(&mut bytes)
        .map_err(io_error)?;
    parse(&bytes, path)
}

/// A journal decides what is started and killed, so only its owner may be able to write it.
fn trusted(uid: u32, owner: u32, mode: u32, path: &Path) -> Result<(), JournalError> {
    let untrusted = |why: String| {
        Err(JournalError::Untrusted {
            path: path.to_path_buf(),
            why,
        })
    };
    if uid != owner {
        return untrusted(format!("it belongs to uid {uid}, not to us (uid {owner})"));
    }
    if mode & 0o022 != 0 {
        return untrusted("its group or others may write it (chmod go-w)".to_owned());
    }
    Ok(())
}

/// As much of the preamble as a torn first write left, and nothing behind it.
fn is_torn_start(bytes: &[u8]) -> bool {
    let preamble = preamble();
    let start = &bytes[..bytes.len().min(PREAMBLE)];
    let same = start
        .iter()
        .zip(&preamble)
        .take_while(|(a, b)| a == b)
        .count();
    same > 0 && same < PREAMBLE && bytes[same..].iter().all(|byte| *byte == 0)
}

/// A later format is refused, and believed.
fn check_format(version: [u8; 4], path: &Path) -> Result<(), JournalError> {
    let path = path.to_path_buf();
    match u32::from_le_bytes(version) {
        0 => {
            let why = "it has format version 0".to_owned();
            Err(JournalError::NotAJournal { path, why })
        }
        1..=FORMAT_VERSION => Ok(()),
        version => Err(JournalError::Later { path, version }),
    }
}

pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Option<Replay>, JournalError> {
    let not_a_journal = |why: String| JournalError::NotAJournal {
        path: path.to_path_buf(),
        why,
    };
    let shown = bytes.len().min(FILE_MAGIC.len());
    // The first bytes are written together with the first frame: without them it never was whole.
    let has_no_start = bytes[..bytes.len().min(PREAMBLE)]
        .iter()
        .all(|byte| *byte == 0);
    if (has_no_start && next_frame(bytes, 0).is_none())
        || (shown < 8 && bytes == &FILE_MAGIC[..shown])
        || is_torn_start(bytes)
    {
        return Ok(None);
    }
    if bytes[..shown] != FILE_MAGIC[..shown] || shown < 8 {
        return Err(not_a_journal(
            "its first bytes are not a journal's".to_owned(),
        ));
    }
    if bytes.len() < PREAMBLE {
        return Ok(None);
    }
    check_format([bytes[8], bytes[9], bytes[10], bytes[11]], path)?;
    let mut records = Vec::new();
    let mut offset = PREAMBLE;
    let mut torn = None;
    loop {
        match decode(bytes, offset) {
            Found::Frame {
                records: more,
                next,
            } => {
                records.extend(more);
                offset = next;
            }
            Found::End => break,
            Found::Damage(why) => {
                if let Some(next) = next_frame(bytes, offset) {
                    return Err(JournalError::Corrupt {
                        path: path.to_path_buf(),
                        offset: offset as u64,
                        why: format!("{why}, and a whole frame follows at offset {next}"),
                    });
                }
                torn = Some((offset as u64, why));
                break;
            }
        }
    }
    let header = match records.first() {
        None => return Ok(None),
        Some(Record {
            kind: Some(Kind::Header(header)),
            ..
        }) => header.clone(),
        Some(_) => {
            return Err(JournalError::Corrupt {
                path: path.to_path_buf(),
                offset: PREAMBLE as u64,
                why: "the first record is not a header".to_owned(),
            });
        }
    };
    let (records, numbering) = flat(records);
    Ok(Some(Replay {
        header,
        records,
        numbering,
        end: offset as u64,
        torn,
    }))
}

/// The last snapshot stands for everything between the header and itself; what it kept becomes part
/// of the list.
fn flat(mut records: Vec<Record>) -> (Vec<Record>, Numbering) {
    let through = |record: &Record| match &record.kind {
        Some(Kind::Snapshot(snapshot)) => snapshot.through,
        _ => 0,
    };
    let Some(at) = records.iter().rposition(|record| through(record) > 0) else {
        return (records, Numbering::default());
    };
    let rest = records.split_off(at + 1);
    let mut snapshot = records.pop();
    records.truncate(1);
    let mut numbering = Numbering::default();
    if let Some(record) = &mut snapshot
        && let Some(Kind::Snapshot(content)) = &mut record.kind
    {
        let kept = std::mem::take(&mut content.kept);
        numbering = Numbering {
            through: content.through,
            listed: 2 + kept.len() as u64,
        };
        records.extend(snapshot);
        records.extend(kept);
    }
    records.extend(rest);
    (records, numbering)
}
