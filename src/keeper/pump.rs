//! The thread that moves output from pipes into rotated log files.
//!
//! It always reads on: a full disk costs output, which is counted and told, never the process its
//! progress. A file rotates at the first newline at or after `bytes`, so it exceeds its size by at
//! most one line; a line that is longer than `bytes` by itself is cut.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl, renameat},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::{EfdFlags, EventFd},
    },
    unistd::pipe2,
};

use super::{logs, proc, runs::Key};

const CHUNK: usize = 64 << 10;
const WAKE: u64 = u64::MAX;

/// How a log rotates.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    /// Also to our own output, with this name in front of every line.
    pub echo: Option<String>,
    pub bytes: u64,
    pub backups: u32,
    pub owner: Option<(u32, u32)>,
}

/// Our end of an output pipe.
#[derive(Debug)]
pub(super) struct Source(File);

impl Source {
    /// A pipe: our end, and the process' end. The latter can be read too, so that the process gets
    /// no SIGPIPE when the keeper dies.
    pub fn pipe() -> io::Result<(Source, OwnedFd)> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        let path = format!("/proc/self/fd/{}", write.as_raw_fd());
        let both = File::options().read(true).write(true).open(path)?;
        Ok((Source::from(read)?, both.into()))
    }

    /// The pipe of ours that a living process has as descriptor `number`, if it still has it: a
    /// dead keeper's pipe is found again in the process that writes to it.
    pub fn reopen(pid: i32, number: i32) -> Option<Source> {
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
        let path = format!("/proc/{pid}/fd/{number}");
        let is_pipe = std::fs::metadata(&path).is_ok_and(|meta| meta.file_type().is_fifo());
        if !is_pipe || flags & libc::O_ACCMODE != libc::O_RDWR {
            return None;
        }
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path);
        Source::from(file.ok()?.into()).ok()
    }

    fn from(fd: OwnedFd) -> io::Result<Source> {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Source(File::from(fd)))
    }
}

/// One output of one run on its way to its file.
#[derive(Debug)]
pub(super) struct Stream {
    key: Key,
    source: Source,
    name: &'static str,
    file: File,
    directory: OwnedFd,
    policy: Policy,
    size: u64,
    /// Bytes of the line that the file ends in.
    line: u64,
    dropped: u64,
    /// The last echoed line is not finished.
    echoing: bool,
}

impl Stream {
    pub fn new(
        key: Key,
        source: Source,
        name: &'static str,
        file: File,
        directory: OwnedFd,
        policy: Policy,
    ) -> io::Result<Stream> {
        let size = file.metadata()?.len();
        Ok(Stream {
            key,
            source,
            name,
            file,
            directory,
            policy,
            size,
            line: 0,
            dropped: 0,
            echoing: false,
        })
    }

    /// Moves some of what is there; false at the end of the output. One chatty process must not
    /// keep the others waiting: epoll comes back to it.
    fn pump(&mut self, buffer: &mut [u8]) -> bool {
        const TURN: usize = 16;
        for _ in 0..TURN {
            match self.source.0.read(buffer) {
                Ok(0) => return false,
                Ok(count) => self.take(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!("reading {} of {:?}: {error}", self.name, self.key);
                    return false;
                }
            }
        }
        true
    }

    fn take(&mut self, mut bytes: &[u8]) {
        self.echo(bytes);
        while !bytes.is_empty() {
            let (piece, rotate) = self.piece(bytes);
            if let Err(error) = self.file.write_all(&bytes[..piece]) {
                if self.dropped == 0 {
                    tracing::warn!("writing {} of {:?}: {error}", self.name, self.key);
                }
                self.dropped += piece as u64;
            }
            if rotate {
                self.rotate();
            }
            bytes = &bytes[piece..];
        }
    }

    /// To our own standard output or error, which may be a pipe that nobody reads: what it does not
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
                tracing::debug!("echoing {} of {:?}: {error}", self.name, self.key);
                return;
            }
        }
    }

    /// How much of `bytes` goes into the present file, and whether the file is then full.
    fn piece(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut size = self.size;
        let mut line = self.line;
        for (index, byte) in bytes.iter().enumerate() {
            size += 1;
            line += 1;
            let whole = *byte == b'\n' && size >= self.policy.bytes;
            if whole || line >= self.policy.bytes {
                self.size = size;
                self.line = 0;
                return (index + 1, true);
            }
            if *byte == b'\n' {
                line = 0;
            }
        }
        (self.size, self.line) = (size, line);
        (bytes.len(), false)
    }

    /// name.1 becomes name.2 and so on; the oldest is overwritten. When that fails the file simply
    /// grows on: losing output would be worse.
    fn rotate(&mut self) {
        let directory = self.directory.as_fd();
        let name = |number: u32| match number {
            0 => self.name.to_owned(),
            number => format!("{}.{number}", self.name),
        };
        for number in (0..self.policy.backups).rev() {
            let (from, to) = (name(number), name(number + 1));
            match renameat(directory, from.as_str(), directory, to.as_str()) {
                Ok(()) | Err(nix::errno::Errno::ENOENT) => {}
                Err(errno) => {
                    tracing::warn!("rotating {from} of {:?}: {errno}", self.key);
                    return;
                }
            }
        }
        match logs::open_log(directory, self.name, self.policy.owner) {
            Ok(file) => {
                self.file = file;
                self.size = 0;
            }
            Err(error) => tracing::warn!("rotating {} of {:?}: {error}", self.name, self.key),
        }
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

/// What the pump tells its keeper.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PumpEvent {
    /// All output of this run is in its files.
    Finished(Key),
    /// Output was lost.
    Dropped {
        key: Key,
        stream: &'static str,
        bytes: u64,
    },
}

#[derive(Debug, Default)]
struct Mail {
    new: Vec<Stream>,
    /// The inodes of the pipes that are still read.
    open: HashMap<Key, Vec<u64>>,
    events: Vec<PumpEvent>,
}

/// The keeper's side.
#[derive(Debug)]
pub(super) struct Pump {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mail: Mutex<Mail>,
    to_pump: EventFd,
    to_keeper: EventFd,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: PumpEvent) {
        self.lock().events.push(event);
        if let Err(errno) = self.to_keeper.write(1) {
            tracing::error!("pump cannot wake the keeper: {errno}");
        }
    }
}

impl Pump {
    pub fn start() -> io::Result<Pump> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let shared = Arc::new(Shared {
            mail: Mutex::default(),
            to_pump: EventFd::from_value_and_flags(0, flags)?,
            to_keeper: EventFd::from_value_and_flags(0, flags)?,
        });
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&shared.to_pump, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("pump".to_owned())
            .stack_size(256 << 10)
            .spawn(move || run(&theirs, &epoll))?;
        Ok(Pump { shared })
    }

    pub fn add(&self, streams: Vec<Stream>) -> io::Result<()> {
        let mut mail = self.shared.lock();
        for stream in &streams {
            let inode = stream.source.0.metadata()?.ino();
            mail.open.entry(stream.key).or_default().push(inode);
        }
        mail.new.extend(streams);
        drop(mail);
        self.shared.to_pump.write(1)?;
        Ok(())
    }

    /// Who, besides us, has a pipe of this run open: found by its inode in /proc.
    pub fn holders(&self, key: Key) -> Vec<i32> {
        let inodes = self
            .shared
            .lock()
            .open
            .get(&key)
            .cloned()
            .unwrap_or_default();
        let me = std::process::id() as i32;
        let Ok(all) = proc::all() else {
            return Vec::new();
        };
        let holds = |pid: i32| {
            let entries = std::fs::read_dir(format!("/proc/{pid}/fd"));
            entries.is_ok_and(|entries| {
                entries.flatten().any(|entry| {
                    let meta = std::fs::metadata(entry.path());
                    meta.is_ok_and(|meta| {
                        meta.file_type().is_fifo() && inodes.contains(&meta.ino())
                    })
                })
            })
        };
        let pids = all.iter().map(|stat| stat.pid);
        pids.filter(|pid| *pid != me && holds(*pid)).collect()
    }

    /// Readable when there are [`events`](Self::events).
    pub fn event(&self) -> BorrowedFd<'_> {
        self.shared.to_keeper.as_fd()
    }

    pub fn events(&self) -> Vec<PumpEvent> {
        // An empty counter is no error: the events were taken before.
        let _ = self.shared.to_keeper.read();
        std::mem::take(&mut self.shared.lock().events)
    }
}

fn run(shared: &Shared, epoll: &Epoll) {
    let mut streams: HashMap<u64, Stream> = HashMap::new();
    let mut next = 0u64;
    let mut buffer = vec![0; CHUNK];
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => {
                tracing::error!("the pump cannot wait: {errno}");
                return;
            }
        };
        for event in &events[..count] {
            let id = event.data();
            if id != WAKE {
                let more = streams.get_mut(&id).is_some_and(|s| s.pump(&mut buffer));
                if !more {
                    finish(shared, epoll, &mut streams, id);
                }
                continue;
            }
            // The counter only wakes us; the mail says what for.
            let _ = shared.to_pump.read();
            let new = std::mem::take(&mut shared.lock().new);
            for stream in new {
                let interest = EpollEvent::new(EpollFlags::EPOLLIN, next);
                let added = epoll.add(&stream.source.0, interest);
                streams.insert(next, stream);
                if let Err(errno) = added {
                    tracing::error!("the pump cannot watch a pipe: {errno}");
                    finish(shared, epoll, &mut streams, next);
                }
                next += 1;
            }
        }
    }
}

fn finish(shared: &Shared, epoll: &Epoll, streams: &mut HashMap<u64, Stream>, id: u64) {
    let Some(stream) = streams.remove(&id) else {
        return;
    };
    // It may never have been added; dropping the descriptor removes it in any case.
    let _ = epoll.delete(&stream.source.0);
    if stream.dropped > 0 {
        shared.tell(PumpEvent::Dropped {
            key: stream.key,
            stream: stream.name,
            bytes: stream.dropped,
        });
    }
    let key = stream.key;
    drop(stream);
    if !streams.values().any(|other| other.key == key) {
        shared.lock().open.remove(&key);
        shared.tell(PumpEvent::Finished(key));
    }
}
