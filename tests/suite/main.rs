//! End-to-end tests against the real binary, by topic.

mod support;
mod vectors;
