//! The live view: a table that redraws itself below the output. Keys select a process, open its
//! log, restart it, stop the task, or leave the view.
//!
//! `board` (what the keys do) and `frame` (what is drawn) are pure; `screen` has the terminal.

mod board;
mod frame;
mod keys;
mod load;
mod recent;
mod screen;

pub(crate) use board::Ask;
pub(crate) use screen::Live;
