//! The command line and the live view, as people meet them.

mod commands;
mod live;
