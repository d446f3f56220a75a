//! The frames that runner and keeper exchange: `length:u32 LE, protobuf`.
//!
//! Both sides are ours, but the reader still refuses a length that cannot be.

use std::io;

use prost::Message;

/// Longest message: a batch that launches thousands of processes fits many times over.
const LONGEST: usize = 256 << 20;
/// A buffer that was larger for a moment gives the rest back, bytes.
const LARGE: usize = 128 << 10;

/// `message` with its length in front.
pub fn frame_message(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + message.encoded_len());
    bytes.extend_from_slice(&(message.encoded_len() as u32).to_le_bytes());
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes
}

/// Bytes that have arrived and are not yet a whole message.
#[derive(Debug, Default)]
pub struct LinkBuffer {
    bytes: Vec<u8>,
}

impl LinkBuffer {
    /// Takes in what was read.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A large batch must not cost memory for ever.
    pub fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
    }
}

impl LinkBuffer {
    /// Takes the first whole message, if there is one.
    ///
    /// # Errors
    /// `InvalidData` for an absurd length or a message that does not decode.
    pub fn first<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        let Some((message, length)) = decode(&self.bytes)? else {
            return Ok(None);
        };
        self.bytes.drain(..length);
        Ok(Some(message))
    }
}

/// Takes every whole message out of `buffer`.
///
/// # Errors
/// `InvalidData` for an absurd length or a message that does not decode.
pub fn messages<M: Message + Default>(buffer: &mut LinkBuffer) -> io::Result<Vec<M>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((message, length)) = decode(&buffer.bytes[at..])? {
        found.push(message);
        at += length;
    }
    buffer.bytes.drain(..at);
    // A snapshot came along, and somebody who is always busy would keep its space for ever.
    if buffer.bytes.capacity() > LARGE && buffer.bytes.len() < LARGE {
        buffer.bytes.shrink_to(LARGE);
    }
    Ok(found)
}

/// The message that `bytes` begin with, and how many of them it takes.
fn decode<M: Message + Default>(bytes: &[u8]) -> io::Result<Option<(M, usize)>> {
    let Some(head) = bytes.first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*head) as usize;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let Some(body) = bytes.get(4..4 + length) else {
        return Ok(None);
    };
    let message = M::decode(body).map_err(io::Error::from)?;
    Ok(Some((message, 4 + length)))
}
