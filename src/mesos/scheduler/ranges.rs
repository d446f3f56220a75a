//! Numbers of instances as people write them: `0-2,5`.

use std::collections::BTreeSet;

use crate::task::MOST_INSTANCES;

/// Reads them; at least one.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_instances(text: &str) -> Result<BTreeSet<u32>, String> {
    let mut all = BTreeSet::new();
    let mut named = 0;
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u32>().ok();
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last && last < MOST_INSTANCES => {
                named += last - first + 1;
                if named > MOST_INSTANCES {
                    return Err(format!("more than {MOST_INSTANCES} instances are named"));
                }
                all.extend(first..=last);
            }
            _ => {
                return Err(format!(
                    "{part:?} is no range of instances: expected numbers such as 0-2,5"
                ));
            }
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
