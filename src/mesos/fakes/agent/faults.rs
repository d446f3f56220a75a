//! What can go wrong, and when: `500ms:drop`, `2s:down=3s`.

use std::{str::FromStr, time::Duration};

use thiserror::Error;

use crate::task::Period;

/// Something that an agent or the network does to an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Breaks every connection.
    Drop,
    /// Dies, and is back (recovering) after this time.
    Down(Duration),
    /// Answers this many updates with 503.
    Refuse(u32),
    /// Says nothing of this many acknowledgements.
    Mute(u32),
    /// Acknowledges this much later from here on.
    Late(Duration),
    /// Sends every event twice from here on.
    Duplicate,
    /// Cuts the stream into pieces of this many bytes from here on.
    Pieces(usize),
    /// Puts bytes on the stream that are no event.
    Garbage,
    /// Kills every task.
    Kill,
    /// Shuts the executor down.
    Shutdown,
}

/// A fault and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduledFault {
    /// After the executor was launched.
    pub at: Duration,
    /// What happens.
    pub fault: Fault,
}

/// Why a text is no fault.
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
