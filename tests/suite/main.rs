//! End-to-end tests against the real binary, by topic.

mod crash;
mod journal;
mod support;
mod tracer;
mod vectors;
