//! The bytes of a journal file.
//!
//! ```text
//! file   = FILE_MAGIC version:u32  frame*  zeros*
//! frame  = FRAME_MAGIC length:u32 crc:u32 payload[length]      (integers little-endian)
//! crc    = CRC32C over offset:u64, length:u32, payload
//! ```
//!
//! The offset is part of the checksum, so a stale or moved frame never passes for one that
//! belongs where it is found. Zeros after the last frame are space allocated ahead.

use prost::Message;

use super::records::{Frame, Record};

/// First bytes of every journal.
pub const FILE_MAGIC: [u8; 8] = *b"DEWAR\r\n\x1a";
/// The version this build writes. Readers accept every version up to it.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes before the first frame.
pub(super) const PREAMBLE: usize = 12;
/// Bytes before a frame's payload.
pub(super) const FRAME_HEADER: usize = 12;
/// A frame is never longer than this: a longer length is damage.
pub(super) const MAX_PAYLOAD: usize = 64 << 20;

const FRAME_MAGIC: [u8; 4] = *b"\xd3frm";

/// The bytes before the first frame.
pub(super) fn preamble() -> [u8; PREAMBLE] {
    let mut bytes = [0; PREAMBLE];
    bytes[..8].copy_from_slice(&FILE_MAGIC);
    bytes[8..].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes
}

/// Encodes `records` as one frame that will stand at `offset` of the file.
pub(super) fn encode(records: Vec<Record>, offset: u64) -> Vec<u8> {
    let payload = Frame { records }.encode_to_vec();
    let length = payload.len() as u32;
    let mut bytes = Vec::with_capacity(FRAME_HEADER + payload.len());
    bytes.extend_from_slice(&FRAME_MAGIC);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&checksum(offset, length, &payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes
}

/// What stands at an offset.
#[derive(Debug)]
pub(super) enum Found {
    /// A whole frame; the next one begins at `next`.
    Frame { records: Vec<Record>, next: usize },
    /// Nothing but zeros from here to the end of the file.
    End,
    /// Bytes that are no frame.
    Damage(&'static str),
}

/// Looks at `bytes[offset..]`, where `bytes` is the whole file.
pub(super) fn decode(bytes: &[u8], offset: usize) -> Found {
    let rest = &bytes[offset..];
    if rest.iter().all(|byte| *byte == 0) {
        return Found::End;
    }
    if rest.len() < FRAME_HEADER {
        return Found::Damage("the frame's header is cut off");
    }
    if rest[..4] != FRAME_MAGIC {
        return Found::Damage("no frame begins here");
    }
    let length = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]);
    let crc = u32::from_le_bytes([rest[8], rest[9], rest[10], rest[11]]);
    if length as usize > MAX_PAYLOAD {
        return Found::Damage("the frame's length is absurd");
    }
    let Some(payload) = rest[FRAME_HEADER..].get(..length as usize) else {
        return Found::Damage("the frame is cut off");
    };
    if checksum(offset as u64, length, payload) != crc {
        return Found::Damage("the checksum does not match");
    }
    match Frame::decode(payload) {
        Ok(frame) => Found::Frame {
            records: frame.records,
            next: offset + FRAME_HEADER + length as usize,
        },
        Err(_) => Found::Damage("the checksum matches but the records do not decode"),
    }
}

/// The offset of the first whole frame after `offset`, if any: then what stands at `offset` is
/// damage in the middle, not a torn tail.
pub(super) fn next_frame(bytes: &[u8], offset: usize) -> Option<usize> {
    (offset + 1..bytes.len().saturating_sub(FRAME_HEADER))
        .filter(|at| bytes[*at..*at + 4] == FRAME_MAGIC)
        .find(|at| matches!(decode(bytes, *at), Found::Frame { .. }))
}

fn checksum(offset: u64, length: u32, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&offset.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &length.to_le_bytes());
    crc32c::crc32c_append(crc, payload)
}
