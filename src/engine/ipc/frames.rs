//! The frames of the link between keeper and runner: `length:u32 LE, protobuf`.
//!
//! Both sides are ours, and still neither believes the other blindly: a length or a message that
//! cannot be is a [`LinkError`]. A broken link says nothing about a journal; it costs the runner
//! that is at its other end. What the messages ask for is not looked at here.

use prost::Message;
use thiserror::Error;

/// The longest message, bytes: a batch that launches thousands of processes fits many times over.
const LONGEST: usize = 256 << 20;
/// A buffer that was larger than this for a moment gives the rest back, bytes.
const LARGE: usize = 128 << 10;

/// Why what came over a link cannot be used.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The length in front of a message is larger than any message is.
    #[error("a message of {0} bytes is announced, and none is that long")]
    TooLong(usize),
    /// A message is not what protobuf makes of one.
    #[error("a message cannot be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// A message began and does not come to its end.
    #[error("the rest of a message has not come for {0} ms")]
    Unfinished(u64),
    /// The runner is of a version that would drop what a task is held to.
    #[error("the runner is of an older version, which does not know what its tasks are held to")]
    Unfit,
    /// A message has been decoded and cannot be meant.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// `message` with its length in front.
pub fn frame_message(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + message.encoded_len());
    bytes.extend_from_slice(&(message.encoded_len() as u32).to_le_bytes());
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes
}

/// The length of the message that follows `head`, bytes.
///
/// # Errors
/// [`LinkError::TooLong`].
pub(super) fn length_of(head: [u8; 4]) -> Result<usize, LinkError> {
    match u32::from_le_bytes(head) as usize {
        length if length > LONGEST => Err(LinkError::TooLong(length)),
        length => Ok(length),
    }
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

    /// Gives back what a large batch took.
    pub fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// True when no part of a message is waited for.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes the first whole message, if there is one.
    ///
    /// # Errors
    /// The link is broken: nothing that follows can be used either.
    pub fn first<M: Message + Default>(&mut self) -> Result<Option<M>, LinkError> {
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
/// The link is broken: nothing that is in the buffer can be used.
pub fn messages<M: Message + Default>(buffer: &mut LinkBuffer) -> Result<Vec<M>, LinkError> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((message, length)) = decode(&buffer.bytes[at..])? {
        found.push(message);
        at += length;
    }
    buffer.bytes.drain(..at);
    // A snapshot came along, and a side that is always busy would keep its space for ever.
    if buffer.bytes.capacity() > LARGE && buffer.bytes.len() < LARGE {
        buffer.bytes.shrink_to(LARGE);
    }
    Ok(found)
}

/// The message that `bytes` begin with, and how many of them it takes.
fn decode<M: Message + Default>(bytes: &[u8]) -> Result<Option<(M, usize)>, LinkError> {
    let Some(head) = bytes.first_chunk() else {
        return Ok(None);
    };
    let length = length_of(*head)?;
    let Some(body) = bytes.get(4..4 + length) else {
        return Ok(None);
    };
    Ok(Some((M::decode(body)?, 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::dewar::link::Batch;

    fn buffer(bytes: &[u8]) -> LinkBuffer {
        let mut buffer = LinkBuffer::default();
        buffer.extend(bytes);
        buffer
    }

    #[test]
    fn whole_messages_are_taken_and_half_a_one_is_waited_for() {
        let batch = |answers| Batch {
            answers,
            ..Batch::default()
        };
        let mut bytes = frame_message(&batch(1));
        bytes.extend(frame_message(&batch(2)));
        let third = frame_message(&batch(3));
        bytes.extend(&third[..5]);
        let mut buffer = buffer(&bytes);
        assert_eq!(
            messages::<Batch>(&mut buffer).unwrap(),
            [batch(1), batch(2)]
        );
        assert!(messages::<Batch>(&mut buffer).unwrap().is_empty());
        buffer.extend(&third[5..]);
        assert_eq!(buffer.first::<Batch>().unwrap(), Some(batch(3)));
        assert_eq!(buffer.first::<Batch>().unwrap(), None);
    }

    #[test]
    fn a_length_that_cannot_be_is_an_error_before_its_message_is_there() {
        let mut buffer = buffer(&[0xff; 4]);
        let error = messages::<Batch>(&mut buffer).unwrap_err();
        assert!(matches!(error, LinkError::TooLong(0xffff_ffff)), "{error}");
        let error = buffer.first::<Batch>().unwrap_err();
        assert!(matches!(error, LinkError::TooLong(_)), "{error}");
    }

    #[test]
    fn a_message_that_is_none_is_an_error_and_stays_one() {
        // A field without a number, and a length that runs out of its message.
        for body in [&[1, 0, 0, 0, 1][..], &[2, 0, 0, 0, 0x0a, 9]] {
            let mut buffer = buffer(body);
            for _ in 0..2 {
                let error = messages::<Batch>(&mut buffer).unwrap_err();
                assert!(matches!(error, LinkError::Undecodable(_)), "{error}");
            }
        }
    }
}
