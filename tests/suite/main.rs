//! End-to-end tests against the real binary, by topic.

mod clients;
mod commands;
mod crash;
mod faults;
mod journal;
mod logs;
mod stop;
mod support;
mod tracer;
mod vectors;
