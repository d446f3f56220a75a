//! HTTP connections, listeners, and which requests are served.
//!
//! It knows no request and no answer: those are in the rooms above.

mod auth;
mod transport;

pub use auth::Guard;
pub use transport::{Address, Connection, Listener, Pieces, Reply, Socket, plain};
