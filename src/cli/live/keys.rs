//! Keys from the bytes that a terminal sends. Pure.

/// A key that means something to the live view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    First,
    Last,
    Enter,
    Escape,
    Char(char),
}

/// The keys in `bytes`, which one read gave; unknown sequences are passed over.
pub(super) fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'\r' | b'\n' => keys.push(Key::Enter),
            0x1b => match after {
                [b'[' | b'O', sequence @ ..] => {
                    // Parameters, then one letter or ~.
                    let end = sequence
                        .iter()
                        .position(|byte| (0x40..=0x7e).contains(byte));
                    let Some(end) = end else {
                        return keys;
                    };
                    let key = match (&sequence[..end], sequence[end]) {
                        (_, b'A') => Some(Key::Up),
                        (_, b'B') => Some(Key::Down),
                        (_, b'H') | (b"1" | b"7", b'~') => Some(Key::First),
                        (_, b'F') | (b"4" | b"8", b'~') => Some(Key::Last),
                        _ => None,
                    };
                    keys.extend(key);
                    rest = &sequence[end + 1..];
                }
                _ => keys.push(Key::Escape),
            },
            byte if byte.is_ascii_graphic() || *byte == b' ' => {
                keys.push(Key::Char(char::from(*byte)));
            }
            _ => {}
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn arrows_letters_and_a_lone_escape() {
        assert_eq!(
            keys(b"\x1b[A\x1b[1;5Bj\r\x1bOA\x1b[4~\x1b"),
            [
                Key::Up,
                Key::Down,
                Key::Char('j'),
                Key::Enter,
                Key::Up,
                Key::Last,
                Key::Escape
            ]
        );
        assert_eq!(keys(b"\x1b[3~x\xc3\xbc"), [Key::Char('x')]);
        assert_eq!(keys(b"\x1b["), []);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = keys(&bytes);
        }
    }
}
