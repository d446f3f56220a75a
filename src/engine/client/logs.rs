//! Following log files: from where we are to where they are, through rotation, line by line.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// Chunks of 16 KiB that one file may fill before the others, and Ctrl-C, have their turn.
const TURN: usize = 16;
/// Files that are glanced at, at most.
const GLANCES: usize = 400;
/// Lines that a glance begins with.
const GLANCE: usize = 20;
/// Bytes that a glance may be behind.
const BEHIND: u64 = 256 << 10;
/// A longer line is shown in pieces.
const LONGEST_LINE: usize = 64 << 10;

/// One line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub process: String,
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// Without the newline.
    pub text: Vec<u8>,
}

/// Several files, woken by inotify.
#[derive(Debug)]
pub(crate) struct LogFollower {
    inotify: Inotify,
    files: Vec<LogFile>,
    has_more: bool,
}

#[derive(Debug)]
struct LogFile {
    process: String,
    run: u32,
    stream: &'static str,
    path: PathBuf,
    file: Option<File>,
    partial: Vec<u8>,
    /// Only its last lines matter: what is behind is passed over.
    is_glance: bool,
    /// What tells that it changed; `None`: nothing does, so it is always looked at.
    watch: Option<WatchDescriptor>,
    /// It changed, or was not read to its end.
    is_due: bool,
}

impl LogFollower {
    pub fn new() -> io::Result<LogFollower> {
        Ok(LogFollower {
            inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?,
            files: Vec::new(),
            has_more: false,
        })
    }

    /// Readable when a file may have grown.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// As [`add`](Self::add), for somebody who only wants to see the last lines.
    pub fn glance(&mut self, sandbox: &Path, process: &str, run: u32) {
        // Descriptors are few; what is not on the screen anyway can do without.
        if self.files.len() >= GLANCES {
            return;
        }
        self.follow(sandbox, process, run, Some(GLANCE), true);
    }

    /// Begins to follow the output of a run; nothing happens when it is followed already. With
    /// `last`, only that many lines of what is there.
    pub fn add(&mut self, sandbox: &Path, process: &str, run: u32, last: Option<usize>) {
        self.follow(sandbox, process, run, last, false);
    }

    fn follow(
        &mut self,
        sandbox: &Path,
        process: &str,
        run: u32,
        last: Option<usize>,
        is_glance: bool,
    ) {
        let known = |file: &LogFile| file.process == process && file.run == run;
        if self.files.iter().any(known) {
            return;
        }
        let directory = sandbox.join(".logs").join(process).join(run.to_string());
        let changes = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
        let watch = match self.inotify.add_watch(&directory, changes) {
            Ok(watch) => Some(watch),
            Err(errno) => {
                tracing::info!("cannot watch {}: {errno}", directory.display());
                None
            }
        };
        for stream in ["stdout", "stderr"] {
            let mut file = LogFile {
                process: process.to_owned(),
                run,
                stream,
                path: directory.join(stream),
                file: None,
                partial: Vec::new(),
                is_glance,
                watch,
                is_due: true,
            };
            file.open();
            if let Some(lines) = last
                && let Err(error) = file.skip_to_last(lines)
            {
                tracing::info!("{}: {error}", file.path.display());
            }
            self.files.push(file);
        }
    }

    /// Stops following a run that is over, after its last lines; they are given out piece by piece.
    pub fn finish(&mut self, process: &str, run: u32, out: &mut dyn FnMut(&[Line])) {
        let is_it = |file: &&LogFile| file.process == process && file.run == run;
        let watch = self.files.iter().find(is_it).and_then(|file| file.watch);
        if let Some(watch) = watch
            && let Err(errno) = self.inotify.rm_watch(watch)
        {
            // Its directory may be gone, and the watch with it.
            tracing::debug!("inotify: {errno}");
        }
        self.files.retain_mut(|file| {
            let is_it = file.process == process && file.run == run;
            if is_it {
                file.read_out(out);
            }
            !is_it
        });
    }

    /// True when the last [`lines`](Self::lines) left something for the next turn.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// What is new, but not more than one turn's worth: a process may write faster than we show.
    pub fn lines(&mut self) -> Vec<Line> {
        let mut changed = HashSet::new();
        let mut is_all = false;
        while let Ok(events) = self.inotify.read_events()
            && !events.is_empty()
        {
            is_all |= events
                .iter()
                .any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW));
            changed.extend(events.into_iter().map(|event| event.wd));
        }
        let mut lines = Vec::new();
        self.has_more = false;
        for file in &mut self.files {
            let is_changed = file.watch.is_none_or(|watch| changed.contains(&watch));
            if is_all || is_changed || file.is_due {
                file.is_due = file.read(&mut lines);
                self.has_more |= file.is_due;
            }
        }
        lines
    }
}

/// Reads on; 0 at the end, or when there is nothing to read from.
fn file_is_read(file: &mut Option<File>, chunk: &mut [u8]) -> usize {
    let read = file.as_mut().map(|file| file.read(chunk));
    read.and_then(Result::ok).unwrap_or_default()
}

fn open_plain(path: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // The sandbox is its processes' own: what they planted must not hang or mislead us.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = File::options().read(true).custom_flags(flags).open(path);
    let plain = |file: &File| file.metadata().is_ok_and(|meta| meta.is_file());
    opened.ok().filter(plain)
}

impl LogFile {
    fn open(&mut self) {
        self.file = open_plain(&self.path);
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

    /// Whoever only glances does not read what was written faster than they look.
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
    fn read_out(&mut self, out: &mut dyn FnMut(&[Line])) {
        loop {
            let mut lines = Vec::new();
            let more = self.read(&mut lines);
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
    fn read(&mut self, lines: &mut Vec<Line>) -> bool {
        if self.is_glance
            && let Err(error) = self.skip_ahead()
        {
            tracing::info!("{}: {error}", self.path.display());
        }
        for _ in 0..TURN {
            if self.file.is_none() {
                self.open();
            }
            let Some(file) = &mut self.file else {
                return false;
            };
            let mut chunk = [0; 16 << 10];
            match file.read(&mut chunk) {
                // What came between the last look and the rename is still in there.
                Ok(0) if self.was_rotated() => match file_is_read(&mut self.file, &mut chunk) {
                    0 => self.open_next(),
                    count => self.split(&chunk[..count], lines),
                },
                Ok(0) => return false,
                Ok(count) => self.split(&chunk[..count], lines),
                Err(error) => {
                    tracing::info!("{}: {error}", self.path.display());
                    return false;
                }
            }
        }
        true
    }

    /// Goes on with the file that came after ours: while we read, there may have been several.
    fn open_next(&mut self) {
        /// Backups of a log, at most.
        const MOST: u32 = 1000;
        /// Looks at files that are renamed meanwhile, at most.
        const LOOKS: usize = 10;
        let ours = self.file.take().and_then(|file| file.metadata().ok());
        let Some(ours) = ours else {
            return;
        };
        let name = |number: u32| match number {
            0 => self.path.clone(),
            number => PathBuf::from(format!("{}.{number}", self.path.display())),
        };
        let inode = |number: u32| {
            let meta = std::fs::symlink_metadata(name(number)).ok()?;
            Some(meta.ino())
        };
        for _ in 0..LOOKS {
            let mut number = 1;
            let mut oldest = 0;
            let found = loop {
                match inode(number) {
                    Some(inode) if inode == ours.ino() => break Some(number),
                    Some(_) => oldest = number,
                    None => break None,
                }
                number += 1;
                if number > MOST {
                    break None;
                }
            };
            // Ours is gone: what is left begins with the oldest.
            let next = found.map_or(oldest, |number| number - 1);
            let opened = open_plain(&name(next));
            if found.is_none() || found.and_then(inode) == Some(ours.ino()) {
                self.file = opened;
                return;
            }
        }
    }

    /// We are at the end of a file that is not called so any more.
    fn was_rotated(&self) -> bool {
        let ours = self.file.as_ref().and_then(|file| file.metadata().ok());
        let there = std::fs::symlink_metadata(&self.path).ok();
        match (ours, there) {
            (Some(ours), Some(there)) => ours.ino() != there.ino(),
            _ => false,
        }
    }

    fn split(&mut self, bytes: &[u8], lines: &mut Vec<Line>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() > LONGEST_LINE {
                self.flush(lines);
            }
        }
    }

    fn flush(&mut self, lines: &mut Vec<Line>) {
        if self.partial.is_empty() {
            return;
        }
        let mut text = std::mem::take(&mut self.partial);
        if text.last() == Some(&b'\n') {
            text.pop();
        }
        lines.push(Line {
            process: self.process.clone(),
            stream: self.stream,
            text,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn texts(lines: Vec<Line>) -> Vec<String> {
        let texts = lines.into_iter().map(|line| line.text);
        texts
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .collect()
    }

    #[test]
    fn lines_are_followed_through_rotation() {
        let sandbox = tempfile::tempdir().unwrap();
        let directory = sandbox.path().join(".logs/a/0");
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("stdout");
        let mut file = File::create(&path).unwrap();
        write!(file, "one\ntwo\nthree\nfo").unwrap();

        let mut follower = LogFollower::new().unwrap();
        follower.add(sandbox.path(), "a", 0, Some(2));
        assert_eq!(texts(follower.lines()), ["three"]);
        writeln!(file, "ur").unwrap();
        fs::rename(&path, directory.join("stdout.1")).unwrap();
        // Several rotations before anybody looks.
        fs::write(&path, "five\n").unwrap();
        for (from, to) in [("stdout.1", "stdout.2"), ("stdout", "stdout.1")] {
            fs::rename(directory.join(from), directory.join(to)).unwrap();
        }
        fs::write(&path, "six").unwrap();
        assert_eq!(texts(follower.lines()), ["four", "five"]);
        let mut last = Vec::new();
        follower.finish("a", 0, &mut |lines| last.extend_from_slice(lines));
        assert_eq!(texts(last), ["six"]);
    }
}
