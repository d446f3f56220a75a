//! What root, keeper, runner and clients say to each other, and where the files of a task are.
//!
//! Field numbers and names of files are for ever: programs of different versions meet here. This room starts
//! nothing and decides nothing.

mod frames;
mod live;
mod startup;

pub use frames::{LinkBuffer, frame_message, messages};
pub(crate) use live::{Gate, Pass};
pub use live::{Holder, Live, LiveView};
pub use startup::{Go, GoError};
