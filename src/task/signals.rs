//! Names of signals, as people write them: `SIGINT`, `int` or `2`.

use std::{fmt, str::FromStr};

use nix::sys::signal::Signal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A signal that a process can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSignal(Signal);

impl StopSignal {
    /// The signal that stops a process by default, SIGTERM.
    pub const TERM: StopSignal = StopSignal(Signal::SIGTERM);

    /// The number that the kernel has for it.
    pub fn number(self) -> u32 {
        self.0 as u32
    }

    /// The names of all signals, for suggestions.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Signal::iterator().map(Signal::as_str)
    }
}

impl FromStr for StopSignal {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<StopSignal, Self::Err> {
        const EXPECTED: &str = "expected a signal such as SIGINT, HUP or 15";
        let text = text.trim().to_ascii_uppercase();
        if let Ok(number) = text.parse::<i32>() {
            let known = Signal::try_from(number);
            return known.map(StopSignal).map_err(|_| EXPECTED);
        }
        let name = match text.starts_with("SIG") {
            true => text,
            false => format!("SIG{text}"),
        };
        Signal::from_str(&name)
            .map(StopSignal)
            .map_err(|_| EXPECTED)
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl Serialize for StopSignal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StopSignal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StopSignal, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_signals_in_many_ways() {
        for text in ["SIGINT", "int", "2", " Int "] {
            let signal: StopSignal = text.parse().unwrap();
            assert_eq!(signal.to_string(), "SIGINT", "{text}");
        }
        for text in ["", "SIG", "99", "-1", "signal"] {
            assert!(text.parse::<StopSignal>().is_err(), "{text}");
        }
    }
}
