//! End-to-end tests against the real binary, by topic.

mod cleanup;
mod clients;
mod commands;
mod crash;
mod errnos;
mod executor;
mod executor_faults;
mod executor_limits;
mod faults;
mod health;
mod isolation;
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
mod systemd;
mod tracer;
mod unprivileged;
mod vectors;
mod vm;
