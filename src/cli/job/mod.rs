//! `dewar job`: the scheduler's clients.

mod args;
mod client;
mod file;
mod progress;
mod show;
mod verbs;

pub(super) use args::JobArgs;
pub(super) use verbs::job;
