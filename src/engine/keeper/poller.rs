//! What the keeper waits for: descriptors, and what an event of each is about.
//!
//! Waiting is all that this file does; what follows from an event is the event loop's.

use std::{io, os::fd::BorrowedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

const KIND_SHIFT: u32 = 32;

/// What an event is about; the lower half of its number is an index, a serial or a pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Token {
    /// A pending SIGCHLD.
    Signal = 1,
    /// The socket to the runner.
    Link,
    /// The runner's end.
    Runner,
    /// Progress of the thread that writes the journal.
    Writer,
    /// News of the thread that moves output.
    Pump,
    /// The end of a process that an earlier keeper left behind.
    Stray,
    /// The end of a run's first process.
    Exit,
    /// The end of a gate: exec, or death.
    Gate,
    /// The root's end.
    Root,
    /// The end of a health check's script.
    Script,
    /// The end of a private task's init.
    Init,
    /// The end of an orphan in a pid namespace.
    Orphan,
    /// News of the memory of a run.
    Memory,
    /// A group of a run that is over may be empty now.
    Group,
}

impl Token {
    fn number(self, index: usize) -> u64 {
        (self as u64) << KIND_SHIFT | index as u64
    }

    /// What an event's number says; `None` for a number that no descriptor was watched with.
    pub fn of(number: u64) -> Option<(Token, usize)> {
        const ALL: [Token; 14] = [
            Token::Signal,
            Token::Link,
            Token::Runner,
            Token::Writer,
            Token::Pump,
            Token::Stray,
            Token::Exit,
            Token::Gate,
            Token::Root,
            Token::Script,
            Token::Init,
            Token::Orphan,
            Token::Memory,
            Token::Group,
        ];
        let kind = number >> KIND_SHIFT;
        let token = ALL.into_iter().find(|token| *token as u64 == kind)?;
        Some((token, number as u32 as usize))
    }
}

/// The descriptors that are waited for.
pub(super) struct Poller {
    epoll: Epoll,
}

impl Poller {
    /// # Errors
    /// What epoll_create says.
    pub fn new() -> io::Result<Poller> {
        Ok(Poller {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        })
    }

    /// Tells when `fd` is readable.
    pub fn watch(&self, fd: BorrowedFd<'_>, token: Token, index: usize) -> io::Result<()> {
        self.watch_for(fd, EpollFlags::EPOLLIN, token, index)
    }

    /// Tells once when the process of `pidfd` is dead, and once more for each thing that happens to
    /// it then: its tracer has let go of it, its parent has reaped it.
    pub fn watch_end(&self, pidfd: BorrowedFd<'_>, token: Token, index: usize) -> io::Result<()> {
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        self.watch_for(pidfd, interest, token, index)
    }

    /// Tells each time that the group changes whose `cgroup.events` this is.
    pub fn watch_group(&self, events: BorrowedFd<'_>) -> io::Result<()> {
        let interest = EpollFlags::EPOLLPRI | EpollFlags::EPOLLET;
        self.watch_for(events, interest, Token::Group, 0)
    }

    /// Tells when `fd` is as `interest` says; its end is always told.
    fn watch_for(
        &self,
        fd: BorrowedFd<'_>,
        interest: EpollFlags,
        token: Token,
        index: usize,
    ) -> io::Result<()> {
        let event = EpollEvent::new(interest, token.number(index));
        Ok(self.epoll.add(fd, event)?)
    }

    /// Tells of `fd`, which is watched already, when it is as `interest` says.
    pub fn change(&self, fd: BorrowedFd<'_>, interest: EpollFlags, token: Token) {
        let mut event = EpollEvent::new(interest, token.number(0));
        if let Err(errno) = self.epoll.modify(fd, &mut event) {
            tracing::warn!("epoll: {errno}");
        }
    }

    /// Tells of `fd` no more.
    pub fn forget(&self, fd: BorrowedFd<'_>) {
        if let Err(errno) = self.epoll.delete(fd) {
            tracing::warn!("epoll: {errno}");
        }
    }

    /// Waits for the next events.
    pub fn wait(&self, events: &mut [EpollEvent], timeout: EpollTimeout) -> nix::Result<usize> {
        self.epoll.wait(events, timeout)
    }
}
