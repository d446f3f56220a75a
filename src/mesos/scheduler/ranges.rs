//! Numbers of instances as people write them: `0-2,5`.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::task::MOST_INSTANCES;

/// Why a text names no instances.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    /// A part of it is neither a number nor a range that goes up.
    #[error("{0:?} is no range of instances: expected numbers such as 0-2,5")]
    NoRange(String),
    /// It names more instances than a job may have.
    #[error("more than {MOST_INSTANCES} instances are named")]
    TooMany,
}

/// Reads the numbers of instances in a text such as `0-2,5`; at least one.
///
/// # Errors
/// If a part of the text is no range, or too many instances are named.
pub fn parse_instances(text: &str) -> Result<BTreeSet<u32>, RangeError> {
    let mut all = BTreeSet::new();
    let mut named = 0;
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u32>().ok();
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last && last < MOST_INSTANCES => {
                named += last - first + 1;
                if named > MOST_INSTANCES {
                    return Err(RangeError::TooMany);
                }
                all.extend(first..=last);
            }
            _ => return Err(RangeError::NoRange(part.to_owned())),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse_instances(" 0-2, 5"), Ok([0, 1, 2, 5].into()));
        for text in [
            "",
            "0,,1",
            "2-0",
            "a",
            "1-",
            "-1",
            "0-99999999",
            "0-99999,0-99999",
        ] {
            assert!(parse_instances(text).is_err(), "{text}");
        }
    }
}
