//! A store of file descriptors in the root: a copy of every pipe that the keeper reads. What is in
//! a pipe when the keeper dies is still there when the root takes its place, also if the process
//! has ended meanwhile.
//!
//! The keeper hands copies over as it gets descriptors; the root only holds them. Nothing waits
//! for the root: when it does not take copies fast enough, a pipe is held by the keeper alone, and
//! that is logged.

use std::{
    collections::HashMap,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::engine::ipc::Key;

/// Which output of which run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub key: Key,
    /// Its descriptor number in the process: 1 or 2.
    pub number: u8,
}

/// What is held of one output.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    /// The pipe that the process writes to.
    pub source: Option<OwnedFd>,
    /// The pipe between that one and the file, where there is one.
    pub stage: Option<OwnedFd>,
}

/// Which pipe of an output is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Part {
    Source = 1,
    Stage = 2,
}

/// Says that nothing of an output is to be held any more.
const LET_GO: u8 = 0;
/// The length of a message: part, number, task, process, run.
const LENGTH: usize = 14;

/// The keeper's end of the store: what it hands over, and what the root may close.
#[derive(Debug)]
pub(crate) struct FdSender(OwnedFd);

/// The root's end of the store, and what it holds.
#[derive(Debug)]
pub(crate) struct FdStore {
    socket: OwnedFd,
    pipes: HashMap<Slot, Pipes>,
}

/// Makes a store and its two ends.
///
/// # Errors
/// What socketpair says.
pub(crate) fn fd_store() -> io::Result<(FdSender, FdStore)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let fd_store = FdStore {
        socket: theirs,
        pipes: HashMap::new(),
    };
    Ok((FdSender(ours), fd_store))
}

impl FdSender {
    /// Lets the root hold this too; false when it cannot.
    pub fn put(&self, slot: Slot, part: Part, fd: BorrowedFd<'_>) -> bool {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        control.push(SendAncillaryMessage::ScmRights(&fds)) && self.send(part as u8, slot, control)
    }

    /// All of it is in its files.
    pub fn let_go(&self, slot: Slot) {
        self.send(LET_GO, slot, SendAncillaryBuffer::default());
    }

    fn send(&self, part: u8, slot: Slot, mut control: SendAncillaryBuffer<'_, '_, '_>) -> bool {
        let mut message = [0; LENGTH];
        (message[0], message[1]) = (part, slot.number);
        let Key { task, process, run } = slot.key;
        for (place, value) in message[2..].chunks_exact_mut(4).zip([task, process, run]) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = sendmsg(&self.0, &[IoSlice::new(&message)], &mut control, flags);
        if let Err(errno) = sent {
            tracing::debug!("the root does not hold {slot:?}: {errno}");
        }
        sent.is_ok()
    }
}

impl FdStore {
    /// Takes in what has come; false when the keeper's end is closed.
    pub fn receive(&mut self) -> bool {
        loop {
            let mut message = [0; LENGTH];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let mut parts = [IoSliceMut::new(&mut message)];
            match recvmsg(&self.socket, &mut parts, &mut control, flags) {
                Ok(got) if got.bytes == 0 => return false,
                Ok(got) => {
                    let fds = control.drain().filter_map(|message| match message {
                        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                        _ => None,
                    });
                    let fd = fds.flatten().next();
                    if got.bytes == LENGTH {
                        self.take(&message, fd);
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return errno == rustix::io::Errno::AGAIN,
            }
        }
    }

    fn take(&mut self, message: &[u8; LENGTH], fd: Option<OwnedFd>) {
        let word = |at: usize| {
            u32::from_le_bytes([
                message[at],
                message[at + 1],
                message[at + 2],
                message[at + 3],
            ])
        };
        let slot = Slot {
            key: Key {
                task: word(2),
                process: word(6),
                run: word(10),
            },
            number: message[1],
        };
        if message[0] == LET_GO {
            self.pipes.remove(&slot);
            return;
        }
        let pipes = self.pipes.entry(slot).or_default();
        match message[0] {
            part if part == Part::Source as u8 => pipes.source = fd,
            part if part == Part::Stage as u8 => pipes.stage = fd,
            _ => {}
        }
    }

    /// All that is held, for the keeper that reads on.
    pub fn into_pipes(mut self) -> HashMap<Slot, Pipes> {
        self.receive();
        self.pipes
    }
}

impl AsFd for FdStore {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
    };

    use super::*;

    #[test]
    fn a_pipe_outlives_both_its_ends_in_the_store_until_it_is_let_go() {
        let (fd_sender, mut fd_store) = fd_store().unwrap();
        let slot = |run, number| Slot {
            key: Key {
                task: 1,
                process: 2,
                run,
            },
            number,
        };
        for run in [7, 8] {
            let (read, write) = io::pipe().unwrap();
            let mut write = File::from(OwnedFd::from(write));
            write.write_all(b"words").unwrap();
            assert!(fd_sender.put(slot(run, 1), Part::Source, read.as_fd()));
        }
        fd_sender.let_go(slot(7, 1));
        assert!(fd_store.receive());
        drop(fd_sender);
        let mut pipes = fd_store.into_pipes();
        assert_eq!(pipes.len(), 1);
        let source = pipes.remove(&slot(8, 1)).unwrap().source.unwrap();
        let mut text = String::new();
        File::from(source).read_to_string(&mut text).unwrap();
        assert_eq!(text, "words");
    }
}
