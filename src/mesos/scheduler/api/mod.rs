//! The scheduler's API: JSON over HTTP, from requests to questions for the core and back.

mod routes;

pub(crate) use routes::serve;
pub use routes::{QuotaBody, Submission};
