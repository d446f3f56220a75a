//! The first words: what a client tells a fresh root, and what a root answers when it cannot.
//!
//! The same socket is handed down to the runner afterwards, as its first client.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
};

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::protocols::dewar::link as wire;

pub use wire::Go;

/// Why a root did not begin. Sent as one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename = "refused")]
pub struct GoError {
    /// Somebody else already looks after this task.
    pub busy: bool,
    /// What went wrong.
    pub message: String,
}

impl Go {
    /// Sends it.
    ///
    /// # Errors
    /// What write says; `BrokenPipe` when the root is gone.
    pub fn send(&self, mut socket: &UnixStream) -> io::Result<()> {
        socket.write_all(&super::frames::frame_message(self))
    }

    /// Waits for it; `None` when the client left without a word.
    ///
    /// # Errors
    /// What read says; `InvalidData` for a message that does not decode.
    pub(crate) fn receive(mut socket: &UnixStream) -> io::Result<Option<Go>> {
        let mut length = [0; 4];
        match socket.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        }
        let mut body = vec![0; u32::from_le_bytes(length) as usize];
        match socket.read_exact(&mut body) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        }
        Ok(Some(Go::decode(body.as_slice()).map_err(io::Error::from)?))
    }
}

impl GoError {
    pub(crate) fn send(&self, mut socket: &UnixStream) {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        if let Err(error) = socket.write_all(&line) {
            tracing::warn!("cannot tell the client why: {error}");
        }
    }
}
