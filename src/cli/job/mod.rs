//! `dewar job`: the scheduler's clients.

mod args;
mod client;
mod file;
mod progress;
mod show;
mod verbs;

pub(crate) use args::JobArgs;
pub(crate) use verbs::job;
