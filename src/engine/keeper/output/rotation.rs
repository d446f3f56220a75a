//! One output of one run, from its pipe into its files.
//!
//! Invariant: a byte leaves the pipe in the same system call that puts it into the file, so a
//! keeper that is killed at any moment loses none and writes none twice. What is looked at (for
//! newlines, or to be echoed) is looked at in a copy. A file rotates at the first newline at or
//! after `bytes`; a line that is longer than that by itself is cut there. A full disk costs
//! output, which is counted, never the process its progress.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, openat, renameat, splice, tee},
    sys::stat::Mode,
    unistd::pipe2,
};

use super::{
    files,
    source::Source,
    surviving_pipes::{FdSender, Part, Slot},
    sync::Syncer,
};

/// Bytes that are moved at a time, at most.
pub(super) const CHUNK: usize = 64 << 10;

/// How a log rotates.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// Also to our own output, with this name in front of every line.
    pub echo: Option<String>,
    pub bytes: u64,
    pub backups: u32,
    pub owner: Option<(u32, u32)>,
}

/// What all streams of a pump share.
pub(crate) struct Tools {
    buffer: Vec<u8>,
    /// Where copies of what is in a pipe are looked at.
    peek: (OwnedFd, OwnedFd),
    pub syncer: Syncer,
}

impl Tools {
    /// # Errors
    /// What pipe says.
    pub fn new() -> io::Result<Tools> {
        Ok(Tools {
            buffer: vec![0; CHUNK],
            peek: pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?,
            syncer: Syncer::default(),
        })
    }
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub slot: Slot,
    pub source: Arc<Source>,
    /// Bytes on the stage, for others to know.
    pub staged: Arc<AtomicUsize>,
    pub name: &'static str,
    pub dropped: u64,
    file: File,
    directory: OwnedFd,
    policy: Policy,
    /// The last echoed line is not finished.
    echoing: bool,
    /// Between source and file, where the process writes much: the source is emptied without its
    /// process having to wait for the file.
    stage: Option<Stage>,
    /// Where the last line of the present file begins, once that matters.
    line_start: Option<u64>,
    /// Bytes beyond its limit that the file may have, because it could not be rotated.
    grown: u64,
    /// The file's system cannot take bytes from a pipe by itself.
    copies: bool,
}

/// A pipe that only we write and read.
#[derive(Debug)]
struct Stage {
    read: Source,
    /// None: it was a dead keeper's, and nothing more comes.
    write: Option<OwnedFd>,
}

/// What came of moving some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    Bytes(usize),
    /// Nothing is there now.
    Nothing,
    /// Nothing will be any more.
    End,
}

impl Stream {
    pub fn new(
        slot: Slot,
        source: Source,
        name: &'static str,
        file: File,
        directory: OwnedFd,
        policy: Policy,
    ) -> io::Result<Stream> {
        Ok(Stream {
            slot,
            source: Arc::new(source),
            staged: Arc::default(),
            name,
            dropped: 0,
            file: positioned(file)?,
            directory,
            policy,
            echoing: false,
            stage: None,
            line_start: None,
            grown: 0,
            copies: false,
        })
    }

    /// What of it was on its way when a keeper died comes first.
    ///
    /// # Errors
    /// What fcntl says.
    pub fn staged(mut self, read: Option<OwnedFd>) -> io::Result<Stream> {
        let read = read.map(Source::of).transpose()?;
        if let Some(read) = &read {
            let waiting = rustix::io::ioctl_fionread(read.as_fd())?;
            self.staged = Arc::new(AtomicUsize::new(waiting as usize));
        }
        self.stage = read.map(|read| Stage { read, write: None });
        Ok(self)
    }

    /// Bytes are on the stage.
    pub fn is_staged(&self) -> bool {
        self.staged.load(Ordering::SeqCst) > 0
    }

    /// The process writes much. Makes room for what it writes during a pause, and a stage if the
    /// root holds a copy of that too; false when the system gives no room.
    pub fn expect_much(&mut self, fd_sender: Option<&FdSender>) -> bool {
        if let (None, Some(fd_sender)) = (&self.stage, fd_sender)
            && let Ok((read, write)) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            && fd_sender.put(self.slot, Part::Stage, read.as_fd())
            && let Ok(read) = Source::of(read)
        {
            let write = Some(write);
            self.stage = Some(Stage { read, write });
        }
        self.source.grow()
    }

    /// Where the next bytes for the file are.
    fn front(&self) -> BorrowedFd<'_> {
        match &self.stage {
            Some(stage) => stage.read.as_fd(),
            None => self.source.as_fd(),
        }
    }

    /// Moves what is in the source onto the stage.
    fn refill(&mut self) -> io::Result<Moved> {
        let Some(Stage {
            write: Some(write), ..
        }) = &self.stage
        else {
            // It was a dead keeper's, and is empty by now.
            self.stage = None;
            return Ok(Moved::Bytes(0));
        };
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
        match splice(&*self.source, None, write, None, CHUNK, flags) {
            Ok(0) => Ok(Moved::End),
            // They count when they are in the file.
            Ok(count) => {
                self.staged.fetch_add(count, Ordering::SeqCst);
                Ok(Moved::Bytes(0))
            }
            Err(Errno::EAGAIN) => Ok(Moved::Nothing),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Moves some of what is there.
    pub fn pump(&mut self, tools: &mut Tools) -> Moved {
        let moved = match self.step(tools) {
            // Nothing is on the stage: what is behind it?
            Ok(Moved::Nothing | Moved::End) if self.stage.is_some() => self.refill(),
            other => other,
        };
        match moved {
            Ok(moved) => moved,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Moved::Bytes(0),
            Err(error) => {
                tracing::warn!("reading {} of {:?}: {error}", self.name, self.slot);
                Moved::End
            }
        }
    }

    fn step(&mut self, tools: &mut Tools) -> io::Result<Moved> {
        let size = self.file.metadata()?.len();
        let limit = self.policy.bytes.saturating_add(self.grown);
        // Up to here no newline can be the last one of this file.
        let blind = limit.saturating_sub(1).saturating_sub(size);
        if blind > 0 && self.policy.echo.is_none() {
            let count = usize::try_from(blind).unwrap_or(CHUNK).min(CHUNK);
            return self.shift(count, size, tools);
        }
        let count = match self.look(tools) {
            Ok(0) => return Ok(Moved::End),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Moved::Nothing),
            Err(error) => return Err(error),
        };
        let line_start = match self.line_start {
            // It only moves on with a newline, and that ends the file.
            Some(start) => start,
            None if blind > 0 => size,
            None => *self.line_start.insert(self.find_line_start(size, limit)?),
        };
        let longest = line_start.saturating_add(limit).saturating_sub(size).max(1);
        let (count, is_full) = piece(&tools.buffer[..count], size, limit, longest);
        self.echo(&tools.buffer[..count]);
        let mut moved = 0;
        while moved < count {
            match self.shift(count - moved, size + moved as u64, tools)? {
                Moved::Bytes(some) => moved += some,
                other => return Ok(other),
            }
        }
        if is_full {
            self.rotate(&tools.syncer);
        }
        Ok(Moved::Bytes(moved))
    }

    /// The end of the last newline within the first `size` bytes of the file, but no more than
    /// `limit` bytes back: a longer line is cut anyway, and a user may have made the file as long
    /// as they like.
    fn find_line_start(&self, size: u64, limit: u64) -> io::Result<u64> {
        let first = size.saturating_sub(limit);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(&self.directory, self.name, flags, Mode::empty());
        let file = match opened {
            Ok(fd) => File::from(fd),
            // It was taken away; then it has no lines to speak of.
            Err(_) => return Ok(size),
        };
        let mut block = [0; 4096];
        let mut end = size;
        while end > first {
            let begin = end.saturating_sub(block.len() as u64).max(first);
            let block = &mut block[..(end - begin) as usize];
            if file.read_exact_at(block, begin).is_err() {
                return Ok(size);
            }
            if let Some(at) = memchr::memrchr(b'\n', block) {
                return Ok(begin + at as u64 + 1);
            }
            end = begin;
        }
        Ok(first)
    }

    /// Copies what is in the pipe into the buffer, and leaves it there.
    fn look(&self, tools: &mut Tools) -> io::Result<usize> {
        let (read, write) = &tools.peek;
        let count = tee(self.front(), write, CHUNK, SpliceFFlags::SPLICE_F_NONBLOCK)?;
        let mut got = 0;
        while got < count {
            got += nix::unistd::read(read, &mut tools.buffer[got..count])?;
        }
        Ok(count)
    }

    /// Moves up to `count` bytes from the pipe to the end of the file.
    fn shift(&mut self, count: usize, size: u64, tools: &mut Tools) -> io::Result<Moved> {
        let moved = self.shift_some(count, size, tools)?;
        if let (Moved::Bytes(count), Some(_)) = (moved, &self.stage) {
            let less = |staged: usize| Some(staged.saturating_sub(count));
            // It always has an answer.
            let _ = self
                .staged
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        }
        Ok(moved)
    }

    fn shift_some(&mut self, count: usize, size: u64, tools: &mut Tools) -> io::Result<Moved> {
        if self.copies {
            return self.copy(count, size, tools);
        }
        let mut offset = size as libc::loff_t;
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        let spliced = splice(
            self.front(),
            None,
            &self.file,
            Some(&mut offset),
            count,
            flags,
        );
        match spliced {
            Ok(0) => Ok(Moved::End),
            Ok(count) => Ok(Moved::Bytes(count)),
            Err(Errno::EAGAIN) => Ok(Moved::Nothing),
            Err(Errno::EINTR) => Ok(Moved::Bytes(0)),
            Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                self.copies = true;
                self.copy(count, size, tools)
            }
            Err(errno) => {
                let count = count.min(CHUNK);
                let read = self.read(&mut tools.buffer[..count]);
                if let Ok(Moved::Bytes(read)) = read {
                    self.lose(read, &errno.into());
                }
                read
            }
        }
    }

    fn copy(&mut self, count: usize, size: u64, tools: &mut Tools) -> io::Result<Moved> {
        let count = count.min(CHUNK);
        let read = self.read(&mut tools.buffer[..count])?;
        if let Moved::Bytes(count) = read
            && let Err(error) = self.file.write_all_at(&tools.buffer[..count], size)
        {
            self.lose(count, &error);
        }
        Ok(read)
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<Moved> {
        match nix::unistd::read(self.front(), buffer) {
            Ok(count) => Ok(Moved::of(count)),
            Err(Errno::EAGAIN) => Ok(Moved::Nothing),
            Err(errno) => Err(errno.into()),
        }
    }

    fn lose(&mut self, bytes: usize, error: &io::Error) {
        if self.dropped == 0 {
            tracing::warn!("writing {} of {:?}: {error}", self.name, self.slot);
        }
        self.dropped += bytes as u64;
    }

    /// To our own standard output or error, which may be a pipe that is not read: what it does not
    /// take at once is not waited for; it is in the file.
    fn echo(&mut self, bytes: &[u8]) {
        let Some(name) = &self.policy.echo else {
            return;
        };
        let mut text = Vec::with_capacity(bytes.len() + name.len() + 3);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.echoing {
                text.extend_from_slice(name.as_bytes());
                text.extend_from_slice(b" | ");
            }
            text.extend_from_slice(line);
            self.echoing = !line.ends_with(b"\n");
        }
        for piece in text.chunks(libc::PIPE_BUF) {
            let echoed = match self.name {
                "stderr" => echo(io::stderr().as_fd(), piece),
                _ => echo(io::stdout().as_fd(), piece),
            };
            if let Err(error) = echoed {
                tracing::debug!("echoing {} of {:?}: {error}", self.name, self.slot);
                return;
            }
        }
    }

    /// name.1 becomes name.2 and so on; the oldest is overwritten. When that fails the file simply
    /// grows on: losing output would be worse.
    fn rotate(&mut self, syncer: &Syncer) {
        self.line_start = None;
        let directory = self.directory.as_fd();
        let name = |number: u32| match number {
            0 => self.name.to_owned(),
            number => format!("{}.{number}", self.name),
        };
        for number in (0..self.policy.backups).rev() {
            let (from, to) = (name(number), name(number + 1));
            match renameat(directory, from.as_str(), directory, to.as_str()) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => {
                    tracing::warn!("rotating {from} of {:?}: {errno}", self.slot);
                    self.grown = self.grown.saturating_add(self.policy.bytes);
                    return;
                }
            }
        }
        let opened = files::open_log(directory, self.name, self.policy.owner).and_then(positioned);
        match opened {
            Ok(file) => {
                self.grown = 0;
                syncer.sync(std::mem::replace(&mut self.file, file));
            }
            Err(error) => {
                tracing::warn!("rotating {} of {:?}: {error}", self.name, self.slot);
                self.grown = self.grown.saturating_add(self.policy.bytes);
            }
        }
    }
}

impl Moved {
    fn of(count: usize) -> Moved {
        match count {
            0 => Moved::End,
            count => Moved::Bytes(count),
        }
    }
}

/// Bytes come to an offset, which is always the end: in its appending mode a file takes none from
/// a pipe.
fn positioned(file: File) -> io::Result<File> {
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(file)
}

/// How many of `bytes` belong into a file that has `size` bytes, and whether it is full then: at
/// the first newline at or after `limit`, or when `longest` more bytes of one line have come.
fn piece(bytes: &[u8], size: u64, limit: u64, longest: u64) -> (usize, bool) {
    let before = limit.saturating_sub(1).saturating_sub(size);
    let before = usize::try_from(before).unwrap_or(usize::MAX);
    let Some(rest) = bytes.get(before..) else {
        return (bytes.len(), false);
    };
    let longest = usize::try_from(longest).unwrap_or(usize::MAX);
    match memchr::memchr(b'\n', rest) {
        Some(at) if before + at < longest => (before + at + 1, true),
        _ if bytes.len() >= longest => (longest, true),
        _ => (bytes.len(), false),
    }
}

/// Writes a piece that a pipe takes whole or not at all, unless it would have to wait.
fn echo(output: BorrowedFd<'_>, piece: &[u8]) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(output, PollFlags::POLLOUT)];
    if poll(&mut fds, PollTimeout::ZERO)? == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    nix::unistd::write(output, piece)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;
    use crate::engine::ipc::Key;

    #[test]
    fn a_file_is_full_at_the_first_newline_at_its_size_or_when_a_line_is_too_long() {
        for (bytes, size, limit, longest, expected) in [
            ("abc\ndef\n", 0, 4, 99, (4, true)),
            ("abc\ndef\n", 0, 5, 99, (8, true)),
            ("abc\ndef", 0, 5, 99, (7, false)),
            ("\nx", 3, 4, 99, (1, true)),
            ("\nx", 9, 4, 99, (1, true)),
            ("abcdefgh", 0, 4, 8, (8, true)),
            ("abcdefghi\n", 0, 4, 8, (8, true)),
            ("bcdefgh", 3, 4, 1, (1, true)),
            ("abc", 0, u64::MAX, u64::MAX, (3, false)),
        ] {
            let found = piece(bytes.as_bytes(), size, limit, longest);
            assert_eq!(found, expected, "{bytes:?} at {size} of {limit}");
        }
    }

    /// A stream into a directory of its own, and the end that a process would have.
    fn stream(directory: &std::path::Path, bytes: u64) -> (Stream, File) {
        let (source, theirs) = Source::pipe().unwrap();
        let opened: OwnedFd = File::open(directory).unwrap().into();
        let file = files::open_log(opened.as_fd(), "stdout", None).unwrap();
        let policy = Policy {
            echo: None,
            bytes,
            backups: 9,
            owner: None,
        };
        let key = Key {
            task: 0,
            process: 0,
            run: 0,
        };
        let slot = Slot { key, number: 1 };
        let stream = Stream::new(slot, source, "stdout", file, opened, policy).unwrap();
        (stream, theirs.into())
    }

    #[test]
    fn what_goes_in_comes_out_whole_and_cut_at_newlines() {
        for (copies, has_stage) in [(false, false), (true, false), (false, true), (true, true)] {
            let (fd_sender, _fd_store) =
                crate::engine::keeper::output::surviving_pipes::fd_store().unwrap();
            let directory = tempfile::tempdir().unwrap();
            let (mut stream, mut theirs) = stream(directory.path(), 50);
            stream.copies = copies;
            if has_stage {
                stream.expect_much(Some(&fd_sender));
                assert!(stream.stage.is_some());
            }
            let mut tools = Tools::new().unwrap();
            let mut all = String::new();
            for line in 0..40 {
                let text = format!("line {line} {}\n", "x".repeat(line % 7));
                theirs.write_all(text.as_bytes()).unwrap();
                all += &text;
                if line % 3 == 0 {
                    while stream.pump(&mut tools) != Moved::Nothing {}
                }
            }
            drop(theirs);
            while stream.pump(&mut tools) != Moved::End {}
            let mut found = String::new();
            for number in (0..=9).rev() {
                let name = match number {
                    0 => "stdout".to_owned(),
                    number => format!("stdout.{number}"),
                };
                let Ok(text) = fs::read_to_string(directory.path().join(name)) else {
                    continue;
                };
                assert!(text.ends_with('\n') || number == 0, "{text:?}");
                assert!(
                    number == 0 || (50..70).contains(&text.len()),
                    "{}",
                    text.len()
                );
                found += &text;
            }
            // Ten files of fifty bytes are all that is kept.
            assert!(all.ends_with(&found), "{found:?}");
            assert!(found.len() >= 450, "{}", found.len());
        }
    }
}
