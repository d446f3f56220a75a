//! A signal by the name that programs read: `SIGKILL`, or `SIG34` for one that has no name.

use std::{borrow::Cow, fmt, str::FromStr};

use nix::sys::signal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

/// A signal by the kernel's number, whether this version has a name for it or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(pub u32);

/// A text that names no signal.
#[derive(Debug, Error)]
#[error("{0:?} is no signal, expected one such as SIGTERM or SIG34")]
pub struct NotASignal(String);

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = i32::try_from(self.0)
            .ok()
            .and_then(|number| signal::Signal::try_from(number).ok());
        match known {
            Some(known) => f.write_str(known.as_str()),
            None => write!(f, "SIG{}", self.0),
        }
    }
}

impl FromStr for Signal {
    type Err = NotASignal;

    fn from_str(text: &str) -> Result<Signal, NotASignal> {
        if let Ok(known) = signal::Signal::from_str(text) {
            return Ok(Signal(known as u32));
        }
        let number = text.strip_prefix("SIG").and_then(|text| text.parse().ok());
        number
            .map(Signal)
            .ok_or_else(|| NotASignal(text.to_owned()))
    }
}

impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Signal, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Signal {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Signal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^SIG[A-Z0-9]+$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_without_a_name_are_told_by_number() {
        for (number, name) in [(9, "SIGKILL"), (34, "SIG34"), (u32::MAX, "SIG4294967295")] {
            assert_eq!(Signal(number).to_string(), name);
            assert_eq!(name.parse::<Signal>().unwrap(), Signal(number));
        }
        assert!("KILL".parse::<Signal>().is_err());
    }
}
