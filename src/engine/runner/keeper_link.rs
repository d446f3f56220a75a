//! The runner's end of its link to the keeper: reports in, batches out.
//!
//! Writing never waits: what the link does not take now stays in the outbox.

use std::{io, os::fd::OwnedFd};

use tokio::{
    io::{Interest, Ready},
    net::UnixStream,
};

use super::error::RunnerError;
use crate::{
    engine::ipc::{LinkBuffer, messages},
    protocols::dewar::link::Report,
    sys::memory::trim_heap,
};

/// An outbox that was larger than this for a moment gives its memory back, bytes.
const LARGE: usize = 128 << 10;

/// The link with the bytes that wait on this side of it.
#[derive(Debug)]
pub(super) struct KeeperLink {
    stream: UnixStream,
    inbox: LinkBuffer,
    outbox: Vec<u8>,
}

impl KeeperLink {
    /// Takes over the socket `link`, which does not block.
    pub fn new(link: OwnedFd) -> io::Result<KeeperLink> {
        let stream = std::os::unix::net::UnixStream::from(link);
        Ok(KeeperLink {
            stream: UnixStream::from_std(stream)?,
            inbox: LinkBuffer::default(),
            outbox: Vec::new(),
        })
    }

    /// The keeper's first report. The bytes behind it stay in the inbox.
    pub async fn first_report(&mut self) -> Result<Report, RunnerError> {
        loop {
            self.stream.readable().await?;
            if !self.receive()? {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
            }
            if let Some(report) = self.inbox.first::<Report>()? {
                return Ok(report);
            }
        }
    }

    /// Waits until bytes have arrived, or the link takes some of the outbox.
    pub async fn ready(&self) -> io::Result<Ready> {
        let interest = match self.outbox.is_empty() {
            true => Interest::READABLE,
            false => Interest::READABLE | Interest::WRITABLE,
        };
        self.stream.ready(interest).await
    }

    /// Reads the bytes that have arrived; false at the end of the link.
    pub fn receive(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 16 << 10];
        loop {
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(count) => self.inbox.extend(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes every whole report out of the inbox.
    pub fn reports(&mut self) -> Result<Vec<Report>, RunnerError> {
        Ok(messages(&mut self.inbox)?)
    }

    /// Adds `batch` to the outbox, and writes as much of the outbox as the link takes.
    pub fn send(&mut self, batch: Vec<u8>) -> io::Result<()> {
        self.outbox.extend(batch);
        while !self.outbox.is_empty() {
            match self.stream.try_write(&self.outbox) {
                Ok(count) => {
                    self.outbox.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The keeper died; reading finds the end.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.outbox.clear(),
                Err(error) => return Err(error),
            }
        }
        if self.outbox.is_empty() && self.outbox.capacity() > LARGE {
            // A snapshot was in it, for which the whole journal was read.
            self.outbox = Vec::new();
            trim_heap();
        }
        Ok(())
    }

    /// A large batch must not cost memory for ever.
    pub fn shrink_to_fit(&mut self) {
        self.outbox.shrink_to_fit();
        self.inbox.shrink_to_fit();
    }
}
