//! End-to-end tests against the real binary, by topic.

mod clients;
mod commands;
mod crash;
mod executor;
mod executor_faults;
mod faults;
mod health;
mod journal;
mod logs;
mod mesos;
mod stage;
mod stop;
mod support;
mod tracer;
mod vectors;
