//! Dewar runs a *task*: a DAG of cooperating processes in one sandbox, with limits, logs, retries,
//! finalizers and a durable record of what happened. See ARCHITECTURE.md for the picture.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod cli;
pub mod clock;
pub mod config;
pub mod executor;
pub mod fake_agent;
pub mod fake_master;
mod fakes;
pub mod http;
pub mod journal;
pub mod keeper;
pub mod mesos;
pub mod plan;
mod process_stat;
pub mod resources;
pub mod runner;
pub mod sandbox;
pub mod scheduler;
mod trace;

mod protocols {
    //! Generated from `proto/`.
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    include!(concat!(env!("OUT_DIR"), "/protocols.rs"));
}
