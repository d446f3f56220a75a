//! The live view: a table below the output that redraws itself, with keys to select a process, read its log,
//! restart it, stop the task, or leave.
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
