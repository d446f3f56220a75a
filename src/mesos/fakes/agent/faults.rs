//! Faults of the fake agent with their times: `500ms:drop`, `2s:down=3s`.

use std::{str::FromStr, time::Duration};

use thiserror::Error;

use crate::task::Period;

/// A fault of the agent or the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Breaks every connection.
    Drop,
    /// The agent dies, and is back (recovering) after this time.
    Down(Duration),
    /// Answers this many updates with 503.
    Refuse(u32),
    /// Leaves out this many acknowledgements.
    Mute(u32),
    /// Delays acknowledgements by this time from here on.
    Late(Duration),
    /// Sends every event twice from here on.
    Duplicate,
    /// Cuts the stream into pieces of this many bytes from here on.
    Pieces(usize),
    /// Sends bytes on the stream that are no event.
    Garbage,
    /// Kills every task.
    Kill,
    /// Shuts the executor down.
    Shutdown,
}

/// A fault and when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduledFault {
    /// The time since the executor was launched.
    pub at: Duration,
    /// The fault that happens then.
    pub fault: Fault,
}

/// The text of a fault cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no fault: expected TIME:WHAT, where WHAT is drop, down=TIME, refuse=N, mute=N, late=TIME, duplicate, pieces=BYTES, garbage, kill or shutdown"
)]
pub struct FaultError(String);

impl FromStr for ScheduledFault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<ScheduledFault, FaultError> {
        let error = || FaultError(text.to_owned());
        let duration = |text: &str| {
            let period: Result<Period, _> = text.parse();
            period.map(Period::duration)
        };
        let (at, what) = text.split_once(':').ok_or_else(error)?;
        let at = duration(at).map_err(|_| error())?;
        let number = |value: &str| value.parse::<u32>().map_err(|_| error());
        let fault = match what.split_once('=') {
            None => match what {
                "drop" => Fault::Drop,
                "duplicate" => Fault::Duplicate,
                "garbage" => Fault::Garbage,
                "kill" => Fault::Kill,
                "shutdown" => Fault::Shutdown,
                _ => return Err(error()),
            },
            Some(("down", value)) => Fault::Down(duration(value).map_err(|_| error())?),
            Some(("late", value)) => Fault::Late(duration(value).map_err(|_| error())?),
            Some(("refuse", value)) => Fault::Refuse(number(value)?),
            Some(("mute", value)) => Fault::Mute(number(value)?),
            Some(("pieces", value)) => Fault::Pieces((number(value)? as usize).max(1)),
            Some(_) => return Err(error()),
        };
        Ok(ScheduledFault { at, fault })
    }
}
