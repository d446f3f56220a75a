//! A moment on the wall clock, as programs read it.
//!
//! Its text is RFC 3339 in UTC with exactly three decimals. A value has no more than its text says,
//! so a status that was read back from JSON compares equal to the one that was written.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::sys::clock::Moment;

/// The text of every moment that is too late for jiff, whose last day is a day earlier.
const LATEST: &str = "9999-12-31T23:59:59.999Z";

/// A moment on the wall clock, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(Timestamp);

impl WallTime {
    /// The moment `wall_us` microseconds after 1970 began.
    pub fn from_micros(wall_us: u64) -> WallTime {
        let micros = i64::try_from(wall_us).unwrap_or(i64::MAX);
        match Timestamp::from_microsecond(micros) {
            Ok(timestamp) => WallTime::cut(timestamp),
            Err(_) => WallTime(Timestamp::MAX),
        }
    }

    /// The wall clock's moment for one of CLOCK_BOOTTIME (in microseconds), as the two clocks stand
    /// to each other at `now`.
    pub fn of_boot_time(boot_us: u64, now: Moment) -> WallTime {
        let wall_us = now.wall_us.saturating_add(boot_us);
        WallTime::from_micros(wall_us.saturating_sub(now.boot_us))
    }

    /// The moment as jiff has it.
    pub fn timestamp(self) -> Timestamp {
        self.0
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: WallTime) -> Duration {
        let span = self.0.duration_since(earlier.0);
        span.try_into().unwrap_or_default()
    }

    fn cut(timestamp: Timestamp) -> WallTime {
        let millis = Timestamp::from_millisecond(timestamp.as_millisecond());
        WallTime(millis.unwrap_or(timestamp))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 == Timestamp::MAX {
            true => f.write_str(LATEST),
            false => write!(f, "{:.3}", self.0),
        }
    }
}

impl FromStr for WallTime {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<WallTime, jiff::Error> {
        match text {
            LATEST => Ok(WallTime(Timestamp::MAX)),
            text => text.parse().map(WallTime::cut),
        }
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WallTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for WallTime {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "WallTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_cut_to_milliseconds_and_end_with_the_year_9999() {
        for (wall_us, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_999_999, "1970-01-01T00:00:01.999Z"),
            (1_795_452_345_801_251, "2026-11-23T16:45:45.801Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            let time = WallTime::from_micros(wall_us);
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse::<WallTime>().unwrap(), time, "{text}");
        }
    }

    #[test]
    fn times_with_other_decimals_are_read() {
        for text in ["2026-11-23T16:45:45Z", "2026-11-23T16:45:45.0009Z"] {
            let time: WallTime = text.parse().unwrap();
            assert_eq!(time.to_string(), "2026-11-23T16:45:45.000Z");
        }
        assert!("yesterday".parse::<WallTime>().is_err());
    }
}
