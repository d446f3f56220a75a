//! Mesos' v1 HTTP API: messages, RecordIO, both wire formats, a client, the agent's environment.
//!
//! This room knows the protocol. What is said with it is decided in the rooms above.

mod client;
mod duration;
mod environment;
mod message_helpers;
mod recordio;
mod wire;

pub use client::{Calls, Client, ClientError, Stream};
pub use environment::{AgentEnvironment, EnvironmentError};
pub use message_helpers::{is_terminal, ports};
pub use recordio::{Decoder, encode_record};
pub use wire::Wire;

/// The messages, generated from `proto/mesos`.
pub use crate::protocols::mesos::v1 as messages;
