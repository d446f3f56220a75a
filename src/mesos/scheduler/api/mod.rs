//! The scheduler's API: JSON over HTTP, from requests to questions for the core and back.

mod bad_request;
mod bodies;
mod endpoints;
mod job_files;
mod server;
mod strict;

pub use bodies::{QuotaBody, Submission};
pub(crate) use server::serve;
