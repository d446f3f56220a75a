//! The first words: what a client tells a fresh root, and what a root answers when it cannot.
//!
//! The same socket is handed down to the runner afterwards, as its first client.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
};

use prost::Message;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::frames::{LinkError, frame_message, length_of};
use crate::protocols::dewar::link as wire;

pub use wire::StartRequest;

/// Why a root did not begin. Sent as one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename = "refused")]
pub struct StartError {
    /// Another root already looks after this task.
    pub busy: bool,
    /// What went wrong.
    pub message: String,
}

/// Why a root does not know what its client wants.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    /// The socket cannot be read.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// What the client sent is no request.
    #[error(transparent)]
    Message(#[from] LinkError),
}

impl StartRequest {
    /// Sends the request to a root.
    ///
    /// # Errors
    /// What write says; `BrokenPipe` when the root is gone.
    pub fn send(&self, mut socket: &UnixStream) -> io::Result<()> {
        socket.write_all(&frame_message(self))
    }

    /// Waits for the request; `None` when the client left without a word.
    ///
    /// # Errors
    /// What read says; that the client sent something else.
    pub(crate) fn receive(mut socket: &UnixStream) -> Result<Option<StartRequest>, Unreadable> {
        let mut head = [0; 4];
        match socket.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        }
        let mut body = vec![0; length_of(head)?];
        match socket.read_exact(&mut body) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        }
        Ok(Some(
            StartRequest::decode(body.as_slice()).map_err(LinkError::from)?,
        ))
    }
}

impl StartError {
    /// Something went wrong.
    pub(crate) fn failed(message: String) -> StartError {
        StartError {
            busy: false,
            message,
        }
    }

    pub(crate) fn send(&self, mut socket: &UnixStream) {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        if let Err(error) = socket.write_all(&line) {
            tracing::warn!("cannot tell the client why: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(bytes: &[u8]) -> Result<Option<StartRequest>, Unreadable> {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(bytes).unwrap();
        drop(ours);
        StartRequest::receive(&theirs)
    }

    #[test]
    fn a_client_that_leaves_wants_nothing_and_nonsense_is_an_error() {
        let go = StartRequest {
            directory: "/there".to_owned(),
            ..StartRequest::default()
        };
        let bytes = frame_message(&go);
        assert_eq!(received(&bytes).unwrap(), Some(go));
        assert_eq!(received(&bytes[..7]).unwrap(), None);
        assert_eq!(received(&[]).unwrap(), None);
        for bytes in [&[0xff; 4][..], &[1, 0, 0, 0, 1]] {
            let error = received(bytes).unwrap_err();
            assert!(matches!(error, Unreadable::Message(_)), "{error}");
        }
    }
}
