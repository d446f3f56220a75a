//! What can be made to go wrong.

use std::time::Duration;

/// Something that goes wrong, from now on or a number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The stream breaks.
    Drop,
    /// Nobody answers for so long; what is open breaks.
    Down(Duration),
    /// The next acknowledgements are answered and forgotten.
    LoseAcknowledgements(u32),
    /// The next kills are answered and forgotten.
    LoseKills(u32),
    /// Every update is sent twice.
    Duplicate,
    /// An update overtakes the one before it, if that is of another task.
    Reorder,
    /// The next calls are told that their stream id is wrong.
    WrongStreamId(u32),
    /// What the next accepts accept is rescinded in that moment.
    RescindAccepted(u32),
    /// The stream stays open and says nothing.
    Silence,
}
