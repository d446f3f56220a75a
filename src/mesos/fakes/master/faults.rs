//! Faults of the fake master.

use std::time::Duration;

/// A fault that lasts from now on, or happens a number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every connection breaks.
    Drop,
    /// The master is away for this time; open connections break.
    Down(Duration),
    /// The next acknowledgements are accepted and forgotten.
    LoseAcknowledgements(u32),
    /// The next kills are accepted and forgotten.
    LoseKills(u32),
    /// Every update is sent twice.
    Duplicate,
    /// An update overtakes the one before it, if that is about another task.
    Reorder,
    /// The next calls are refused because of a wrong stream id.
    WrongStreamId(u32),
    /// The offers of the next ACCEPT calls are rescinded at that moment.
    RescindAccepted(u32),
    /// The stream stays open, and no event comes any more.
    Silence,
}
