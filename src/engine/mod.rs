//! The engine: what runs tasks on this machine.
//!
//! `plan` decides, `runner` carries its decisions to the `keeper`, the `keeper` does them and
//! writes the journal; `history` reads what is in it, `store` has the tasks of this machine,
//! `client` is what people's programs use, and `ipc` is what they all say to each other. Nothing
//! here knows Mesos or a terminal.

pub mod client;
pub mod history;
pub mod ipc;
pub mod keeper;
pub mod plan;
pub mod runner;
pub mod store;
