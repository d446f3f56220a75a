//! The scheduler: against a fake master, and on a real Mesos.

mod cluster;
mod deaths;
mod jobs;
mod master;
mod real_mesos;
mod requests;
mod updates;
