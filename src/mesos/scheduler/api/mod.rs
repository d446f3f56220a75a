//! The scheduler's API: JSON over HTTP, from requests to questions for the core and back.

mod bodies;
mod routes;

pub use bodies::{QuotaBody, Submission};
pub(crate) use routes::serve;
