//! The scheduler: against a fake master, and on a real Mesos.

mod jobs;
mod real_mesos;
