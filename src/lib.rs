//! Dewar runs a *task*: a DAG of cooperating processes in one sandbox, with limits, logs, retries,
//! finalizers and a durable record of what happened. See ARCHITECTURE.md for the picture.
// The library writes to its output by writers whose errors are handled; only tests print.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod cli;
pub mod config;
pub mod engine;
pub mod journal;
pub mod mesos;
pub mod resources;
pub mod sandbox;
pub mod sys;
pub mod task;
pub mod web;

mod protocols {
    //! Generated from `proto/`.
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    include!(concat!(env!("OUT_DIR"), "/protocols.rs"));
}
