//! Durations as Mesos writes them: a number and a unit, `15mins`, `1.5secs`.

use std::time::Duration;

use thiserror::Error;

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no duration: expected a number and one of ns, us, ms, secs, mins, hrs, days, weeks"
)]
pub struct DurationError(String);

/// The nanoseconds of each unit; the names are stout's.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("ms", 1e6),
    ("secs", 1e9),
    ("mins", 60e9),
    ("hrs", 3600e9),
    ("days", 86400e9),
    ("weeks", 604_800e9),
];

/// Reads `text`; fractions are allowed, negative durations are not.
///
/// # Errors
/// If it is anything else, or longer than 2^63 nanoseconds (292 years).
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError(text.to_owned());
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(error)?;
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| error())?;
    let (_, nanos) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(error)?;
    let nanos = number * nanos;
    match nanos <= i64::MAX as f64 {
        true => Ok(Duration::from_nanos(nanos.round() as u64)),
        false => Err(error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_say() {
        let seconds = |text| parse_duration(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("15mins"), Ok(900.0));
        assert_eq!(seconds("2secs"), Ok(2.0));
        assert_eq!(seconds("1.5hrs"), Ok(5400.0));
        assert_eq!(seconds("250ms"), Ok(0.25));
        assert_eq!(seconds("1weeks"), Ok(604_800.0));
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            "5",
            "secs",
            "5 secs",
            "-1secs",
            "1.2.3secs",
            "5s",
            "1e9weeks",
            "9999999weeks",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
