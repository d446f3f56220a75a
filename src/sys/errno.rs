//! Errors of the system that say where they happened and keep the kernel's number.
//!
//! Which numbers mean what is the callers'.

use std::{error::Error, io};

use thiserror::Error as Described;

/// An error with a text of its own for people.
#[derive(Debug, Described)]
#[error("{text}")]
struct Told {
    text: String,
    source: io::Error,
}

/// Adds the place that an error is about.
pub(crate) fn placed(place: impl std::fmt::Display, error: io::Error) -> io::Error {
    told(format!("{place}: {error}"), error)
}

/// The error with another text for people.
pub(crate) fn told(text: String, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), Told { text, source })
}

/// The kernel's number of an error, or of the one that caused it.
pub(crate) fn errno_of(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut error = Some(error);
    while let Some(one) = error {
        let number = one
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error);
        if number.is_some() {
            return number;
        }
        error = one.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_behind_places() {
        let error = io::Error::from_raw_os_error(libc::EMFILE);
        assert_eq!(errno_of(&error), Some(libc::EMFILE));
        let error = placed("/there", placed("stdout", error));
        let text = error.to_string();
        assert!(
            text.starts_with("/there: stdout: Too many open files"),
            "{text}"
        );
        assert_eq!(errno_of(&error), Some(libc::EMFILE));
        assert_eq!(errno_of(&io::Error::other("no number")), None);
    }
}
