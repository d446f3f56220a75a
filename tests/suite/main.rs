//! End-to-end tests against the real binary, by topic.

mod cleanup;
mod clients;
mod commands;
mod crash;
mod errnos;
mod executor;
mod executor_faults;
mod faults;
mod health;
mod journal;
mod lasting;
mod limits;
mod live;
mod logs;
mod mesos;
mod semantics;
mod stage;
mod stop;
mod support;
mod tracer;
mod vectors;
mod vm;
