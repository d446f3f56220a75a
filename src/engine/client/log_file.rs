//! One followed log: from where its follower is to where it is written to, through rotation.
//!
//! The file that is being read stays open, and so do those that come next as soon as the follower
//! knows of them: what is held cannot be rotated away. It knows files by `log_chain`, and waits for
//! nothing.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
};

use super::{
    log_chain::{Gap, Newer, newer_than, open_plain},
    log_line::{Cut, Line, Missed, Output},
};

/// Chunks of 16 KiB that one log may fill before the others, and Ctrl-C, have their turn.
const TURN: usize = 16;
/// Turns in a row that give nothing, after which a log that is over is left as it is.
const MOST_IDLE_TURNS: u32 = 100;
/// Lines that a glance begins with.
pub(super) const GLANCE: usize = 20;
/// Bytes that a glance may be behind.
const BEHIND: u64 = 256 << 10;
/// A longer line is shown in pieces.
const LONGEST_LINE: usize = 64 << 10;

/// Where in a log its follower begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With all that there is, also in rotated files.
    Oldest,
    /// With the present file.
    Present,
    /// With so many lines at the end of the present file.
    Last(usize),
}

/// Tells how many files of the name of a log have been made up to now; `None`: it is not known.
pub(super) type Made<'a> = dyn FnMut() -> Option<u64> + 'a;

/// One log and how far it was read.
#[derive(Debug)]
pub(super) struct LogFile {
    process: String,
    stream: &'static str,
    path: PathBuf,
    /// Only its last lines matter: what is behind is passed over.
    is_glance: bool,
    /// What is being read. `None`: there was no file yet, so whatever comes is new.
    file: Option<File>,
    /// What comes next, the oldest first.
    newer: VecDeque<File>,
    /// How many files had been made when the last of these files was, at least. `None`: not known.
    made: Option<u64>,
    /// What is missing before the first of `newer`.
    missed: Option<Missed>,
    /// The beginning of a line.
    partial: Vec<u8>,
}

impl LogFile {
    pub fn open(process: &str, stream: &'static str, path: PathBuf, start: Start) -> LogFile {
        let mut log = LogFile {
            process: process.to_owned(),
            stream,
            path,
            is_glance: false,
            file: None,
            newer: VecDeque::new(),
            made: None,
            missed: None,
            partial: Vec::new(),
        };
        if start != Start::Oldest {
            log.file = open_plain(&log.path).ok();
        }
        if let Start::Last(lines) = start
            && let Err(error) = log.skip_to_last(lines)
        {
            tracing::info!("{}: {error}", log.path.display());
        }
        log
    }

    /// As [`open`](Self::open), for a look at the last lines only.
    pub fn glance(process: &str, stream: &'static str, path: PathBuf) -> LogFile {
        LogFile {
            is_glance: true,
            ..LogFile::open(process, stream, path, Start::Last(GLANCE))
        }
    }

    fn skip_to_last(&mut self, count: usize) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let size = file.metadata()?.len();
        let from = size.saturating_sub(1 << 20);
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        file.take(1 << 20).read_to_end(&mut tail)?;
        let body = tail.strip_suffix(b"\n").unwrap_or(&tail);
        let newlines = body.iter().enumerate().rev();
        let mut starts = newlines
            .filter(|(_, byte)| **byte == b'\n')
            .map(|(at, _)| at + 1);
        let start = match count {
            0 => tail.len(),
            count => starts.nth(count - 1).unwrap_or(0),
        };
        file.seek(SeekFrom::Start(from + start as u64))?;
        Ok(())
    }

    /// A glance does not read what was written faster than it looks.
    fn skip_ahead(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let end = file.metadata()?.len();
        if end.saturating_sub(file.stream_position()?) > BEHIND {
            self.partial.clear();
            self.skip_to_last(GLANCE)?;
        }
        Ok(())
    }

    /// Gives out all that there is, a turn's worth at a time.
    pub fn read_out(&mut self, made: &mut Made<'_>, out: &mut dyn FnMut(&[Output])) {
        let mut idle_turns = 0;
        loop {
            let mut lines = Vec::new();
            let more = self.read(made, &mut lines) && idle_turns < MOST_IDLE_TURNS;
            // Names that another process changes all the time never settle.
            idle_turns = if lines.is_empty() { idle_turns + 1 } else { 0 };
            if !more {
                self.flush(&mut lines);
            }
            if !lines.is_empty() {
                out(&lines);
            }
            if !more {
                return;
            }
        }
    }

    /// Reads a turn's worth; true when there may be more.
    pub fn read(&mut self, made: &mut Made<'_>, lines: &mut Vec<Output>) -> bool {
        // First of all, before another rotation takes it away.
        self.hold_newer(made);
        if self.is_glance
            && let Err(error) = self.skip_ahead()
        {
            tracing::info!("{}: {error}", self.path.display());
        }
        for _ in 0..TURN {
            let mut chunk = [0; 16 << 10];
            let count = match &mut self.file {
                Some(file) => file.read(&mut chunk),
                None => Ok(0),
            };
            match count {
                Ok(0) if self.newer.is_empty() => match self.hold_newer(made) {
                    // What was written between the last look and the rename is still in the old
                    // one.
                    Held::Some => {}
                    Held::Nothing if self.begin_again(lines) => {}
                    Held::Nothing => return false,
                    Held::Unsettled => return true,
                },
                Ok(0) => self.open_next(lines),
                Ok(count) => self.split(&chunk[..count], lines),
                Err(error) => {
                    tracing::info!("{}: {error}", self.path.display());
                    return false;
                }
            }
        }
        true
    }

    /// Opens the files that come after the one that is being read, unless some of them are open
    /// already.
    fn hold_newer(&mut self, made: &mut Made<'_>) -> Held {
        if !self.newer.is_empty() {
            return Held::Some;
        }
        // All that were made by now are no newer than the newest file that is found.
        let before = made();
        match newer_than(&self.path, self.file.as_ref()) {
            Newer::IsNewest => {
                self.made = before;
                Held::Nothing
            }
            Newer::Nothing => Held::Nothing,
            Newer::Unsettled => Held::Unsettled,
            Newer::Files { files, more, gap } => {
                let there = (files.len() + more) as u64;
                self.note_gap(gap, made(), there);
                self.made = before.map(|before| before.saturating_sub(more as u64));
                self.newer = files;
                match self.newer.is_empty() {
                    true => Held::Nothing,
                    false => Held::Some,
                }
            }
        }
    }

    /// Notes what is missing behind the present file. By now `made` files have been made; `there`
    /// of them are newer than it and still there.
    fn note_gap(&mut self, gap: Gap, made: Option<u64>, there: u64) {
        let since = made.zip(self.made).map(|(now, then)| now - then.min(now));
        let files = match gap {
            Gap::None => return,
            Gap::Unknown => match since.map(|since| since.saturating_sub(there)) {
                // The present file was the last one to go.
                Some(0) => return,
                files => files,
            },
            Gap::Unreadable => None,
        };
        self.missed = Some(Missed {
            process: self.process.clone(),
            stream: self.stream,
            files,
        });
    }

    /// Goes on with the file that comes after the present one.
    fn open_next(&mut self, lines: &mut Vec<Output>) {
        self.file = self.newer.pop_front();
        if let Some(missed) = self.missed.take().filter(|_| !self.is_glance) {
            self.flush(lines);
            lines.push(Output::Missed(missed));
        }
    }

    /// A file that is shorter than what was read of it was cut: it is read from its beginning. True
    /// when that is so.
    fn begin_again(&mut self, lines: &mut Vec<Output>) -> bool {
        let Some(file) = &mut self.file else {
            return false;
        };
        let (Ok(meta), Ok(bytes)) = (file.metadata(), file.stream_position()) else {
            return false;
        };
        if meta.len() >= bytes || file.seek(SeekFrom::Start(0)).is_err() {
            return false;
        }
        self.flush(lines);
        if !self.is_glance {
            lines.push(Output::Cut(Cut {
                process: self.process.clone(),
                stream: self.stream,
                bytes,
            }));
        }
        true
    }

    fn split(&mut self, bytes: &[u8], lines: &mut Vec<Output>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() > LONGEST_LINE {
                self.flush(lines);
            }
        }
    }

    fn flush(&mut self, lines: &mut Vec<Output>) {
        if self.partial.is_empty() {
            return;
        }
        let mut text = std::mem::take(&mut self.partial);
        if text.last() == Some(&b'\n') {
            text.pop();
        }
        lines.push(Output::Line(Line {
            process: self.process.clone(),
            stream: self.stream,
            text,
        }));
    }
}

/// What came of looking for the files that come next.
enum Held {
    Some,
    Nothing,
    /// The log is being rotated just now.
    Unsettled,
}
