//! `dewar job`: creates, updates and watches jobs by the API of a scheduler.

mod args;
mod client;
mod file;
mod progress;
mod show;
mod verbs;

pub(crate) use args::JobArgs;
pub(crate) use verbs::job;
