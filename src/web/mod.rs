//! HTTP connections, accept loops, and who may ask.
//!
//! It knows no question and no answer: those are the rooms' above.

mod auth;
mod transport;

pub use auth::Guard;
pub use transport::{Address, Connection, Listener, Pieces, Reply, Socket, plain};
