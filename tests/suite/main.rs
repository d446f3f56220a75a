//! End-to-end tests against the real binary, by room.

mod cli;
mod crash;
mod engine;
mod limits;
mod mesos;
mod sandbox;
mod scheduler;
mod support;
mod versions;
mod vm;
