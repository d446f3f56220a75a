//! RecordIO: `<decimal length>\n<bytes>`, one after the other, split anywhere.

use thiserror::Error;

/// Why a stream cannot be read any further.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// There is something else where a length should be.
    #[error("at byte {offset} of the stream a record's length was expected, found {found:?}")]
    NoLength {
        /// The position in the stream, in bytes.
        offset: u64,
        /// The beginning of what is there.
        found: String,
    },
    /// The length is more than the reader allows.
    #[error(
        "the record at byte {offset} of the stream is {length} bytes long; at most {limit} are read"
    )]
    TooLong {
        /// The position in the stream, in bytes.
        offset: u64,
        /// The length that was announced.
        length: u64,
        /// The longest record that is read.
        limit: u64,
    },
}

/// The most digits of a length.
const DIGITS: usize = 19;

/// Puts records together from pieces of any size.
#[derive(Debug)]
pub struct Decoder {
    limit: u64,
    buffer: Vec<u8>,
    /// Bytes of the stream before `buffer`.
    offset: u64,
}

impl Decoder {
    /// A decoder of records of up to `limit` bytes.
    pub fn new(limit: u64) -> Decoder {
        Decoder {
            limit,
            buffer: Vec::new(),
            offset: 0,
        }
    }

    /// Takes in the next piece of the stream.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole record, if it is there.
    ///
    /// # Errors
    /// If the stream is not one of records; nothing after that can be understood.
    pub fn next_record(&mut self) -> Result<Option<Vec<u8>>, RecordError> {
        let line = self.buffer.iter().position(|byte| *byte == b'\n');
        let head = &self.buffer[..line.unwrap_or(self.buffer.len())];
        let is_number = head.len() <= DIGITS && head.iter().all(u8::is_ascii_digit);
        if !is_number || (line.is_some() && head.is_empty()) {
            return Err(RecordError::NoLength {
                offset: self.offset,
                found: String::from_utf8_lossy(&head[..head.len().min(32)]).into_owned(),
            });
        }
        let Some(line) = line else { return Ok(None) };
        let digits = head.iter().map(|digit| u64::from(digit - b'0'));
        let length = digits.fold(0, |number, digit| number * 10 + digit);
        if length > self.limit {
            return Err(RecordError::TooLong {
                offset: self.offset,
                length,
                limit: self.limit,
            });
        }
        let end = line + 1 + length as usize;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let rest = self.buffer.split_off(end);
        let mut record = std::mem::replace(&mut self.buffer, rest);
        record.drain(..=line);
        self.offset += end as u64;
        Ok(Some(record))
    }
}

/// The record with its length in front.
pub fn encode_record(record: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{}\n", record.len()).into_bytes();
    bytes.extend_from_slice(record);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(decoder: &mut Decoder) -> Result<Vec<Vec<u8>>, RecordError> {
        let mut records = Vec::new();
        while let Some(record) = decoder.next_record()? {
            records.push(record);
        }
        Ok(records)
    }

    proptest! {
        #[test]
        fn records_survive_any_split(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let stream: Vec<u8> = records.iter().flat_map(|record| encode_record(record)).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut decoder = Decoder::new(50);
            let mut found = Vec::new();
            for pair in cuts.windows(2) {
                decoder.push(&stream[pair[0]..pair[1]]);
                found.extend(all(&mut decoder).unwrap());
            }
            prop_assert_eq!(found, records);
        }

        #[test]
        fn garbage_is_no_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..8)) {
            let mut decoder = Decoder::new(20);
            for piece in pieces {
                decoder.push(&piece);
                if all(&mut decoder).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let mut decoder = Decoder::new(10);
        decoder.push(b"3\nabc11\n");
        assert_eq!(decoder.next_record(), Ok(Some(b"abc".to_vec())));
        let error = decoder.next_record().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the record at byte 5 of the stream is 11 bytes long; at most 10 are read"
        );
        let mut decoder = Decoder::new(10);
        decoder.push(b"<html>");
        assert!(matches!(
            decoder.next_record(),
            Err(RecordError::NoLength { offset: 0, .. })
        ));
    }
}
