//! Durations and sizes as people write them.
//!
//! A bare number is seconds or bytes. Multiples of bytes are 1024-based with or without the `i`,
//! as Thermos' constants were.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A duration of at least a microsecond's precision and at most ten years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(Duration);

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

const PERIODS: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

const SIZES: [(&str, u32); 5] = [("B", 0), ("K", 10), ("M", 20), ("G", 30), ("T", 40)];

impl Period {
    /// A period of whole seconds.
    pub const fn from_secs(seconds: u64) -> Period {
        Period(Duration::from_secs(seconds))
    }

    /// `None` when it is negative, no number, or longer than ten years.
    pub fn from_secs_f64(seconds: f64) -> Option<Period> {
        Period::new(Duration::try_from_secs_f64(seconds).ok()?)
    }

    /// The number of whole microseconds.
    pub fn as_micros(self) -> u64 {
        self.0.as_micros() as u64
    }

    /// The same as the standard library's type.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// `None` when it is longer than ten years.
    pub fn new(duration: Duration) -> Option<Period> {
        (duration <= LONGEST).then_some(Period(duration))
    }
}

/// Splits `12.5ms` into number and unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..at].parse().ok()?;
    Some((number, text[at..].trim_start()))
}

impl FromStr for Period {
    type Err = &'static str;

    /// Parses `500ms`, `5s`, `1.5h`, `1m30s` or a bare number of seconds.
    fn from_str(text: &str) -> Result<Period, Self::Err> {
        const EXPECTED: &str = "expected a duration such as 500ms, 5s, 2m or 1h30m";
        const TOO_LONG: &str = "longer than ten years";
        let mut rest = text.trim();
        let mut micros = 0.0;
        while !rest.is_empty() {
            let (number, after) = split(rest).ok_or(EXPECTED)?;
            let end = after
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(after.len());
            let unit = match &after[..end] {
                "" if end == after.len() => "s",
                unit => unit,
            };
            let (_, scale) = PERIODS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or(EXPECTED)?;
            micros += number * *scale as f64;
            rest = after[end..].trim_start();
        }
        if text.trim().is_empty() {
            return Err(EXPECTED);
        }
        if micros > LONGEST.as_micros() as f64 {
            return Err(TOO_LONG);
        }
        Ok(Period(Duration::from_micros(micros.round() as u64)))
    }
}

impl FromStr for Bytes {
    type Err = &'static str;

    /// Parses `128MB`, `64MiB`, `1.5G` or a bare number of bytes.
    fn from_str(text: &str) -> Result<Bytes, Self::Err> {
        const EXPECTED: &str = "expected a size such as 512KB, 128MB, 64MiB or 2GB";
        let (number, unit) = split(text).ok_or(EXPECTED)?;
        let unit = unit.to_ascii_uppercase();
        let letter = match unit.as_str() {
            "" => "B",
            "B" => "B",
            other => other
                .strip_suffix("IB")
                .or(other.strip_suffix('B'))
                .unwrap_or(other),
        };
        let (_, shift) = SIZES
            .iter()
            .find(|(name, _)| *name == letter)
            .ok_or(EXPECTED)?;
        let bytes = number * (1u64 << shift) as f64;
        if bytes > (1u64 << 60) as f64 {
            return Err("more than an exbibyte");
        }
        Ok(Bytes(bytes.round() as u64))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.as_micros();
        // The largest unit that divides it, so that what is printed parses to the same.
        let (name, scale) = PERIODS
            .iter()
            .rev()
            .find(|(_, scale)| micros.is_multiple_of(*scale) && micros >= *scale)
            .unwrap_or(&("s", 1_000_000));
        write!(f, "{}{name}", micros / scale)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, shift) = SIZES
            .iter()
            .rev()
            .find(|(_, shift)| self.0.is_multiple_of(1 << shift) && self.0 >= 1 << shift)
            .unwrap_or(&("B", 0));
        match *name {
            "B" => write!(f, "{}B", self.0),
            name => write!(f, "{}{name}B", self.0 >> shift),
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_parses_to_the_same() {
        for text in ["0s", "500ms", "5s", "1m", "90s", "36h", "2d", "7us"] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.to_string().parse(), Ok(period), "{text}");
        }
        for text in ["0B", "1000B", "1KB", "128MB", "3GB", "1536MB"] {
            let bytes: Bytes = text.parse().unwrap();
            assert_eq!(bytes.to_string(), text);
        }
    }

    #[test]
    fn people_write_durations_in_many_ways() {
        let micros = |text: &str| text.parse::<Period>().map(Period::as_micros);
        assert_eq!(micros("1h30m"), Ok(5_400_000_000));
        assert_eq!(micros("1.5s"), Ok(1_500_000));
        assert_eq!(micros("7"), Ok(7_000_000));
        assert!(micros("").is_err());
        assert!(micros("5 parsecs").is_err());
        assert!(micros("-5s").is_err());
        assert!(micros("99999d").is_err());
    }

    #[test]
    fn people_write_sizes_in_many_ways() {
        let bytes = |text: &str| text.parse::<Bytes>().map(|bytes| bytes.0);
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("64mb"), Ok(64 << 20));
        assert_eq!(bytes("1.5K"), Ok(1536));
        assert_eq!(bytes("12"), Ok(12));
        assert!(bytes("many").is_err());
        assert!(bytes("9999999TB").is_err());
    }
}
