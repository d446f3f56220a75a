//! Health checks and the lifecycle of a service, as types.

use serde::{Deserialize, Serialize};

use super::units::Period;

/// How to tell whether something works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// What is tried.
    #[serde(flatten)]
    pub probe: Probe,
    /// Before the first attempt.
    pub delay: Period,
    /// Attempts within this time are a grace: their failures are ignored.
    pub initial_interval: Period,
    /// Between the end of an attempt and the next.
    pub interval: Period,
    /// What an attempt may take.
    pub timeout: Period,
    /// One failure in a row more than these is the end.
    pub max_consecutive_failures: u32,
    /// Successes in a row that make it healthy.
    pub min_consecutive_successes: u32,
    /// Being healthy once ends the grace: Mesos' rule, not Aurora's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grace_ends_early: bool,
}

/// One way to try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// GET at 127.0.0.1.
    Http(HttpProbe),
    /// A connection to this port of 127.0.0.1.
    Tcp(TcpProbe),
    /// A script for bash, in the sandbox; 0 is healthy.
    Shell(String),
}

/// What is asked, and which answer is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// Of 127.0.0.1.
    pub port: u16,
    /// With its query.
    pub path: String,
    /// The right status; 0: any from 200 to 399.
    pub status: u16,
    /// The right body, without case and outer spaces; empty: any.
    pub body: String,
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcpProbe {
    /// Of 127.0.0.1.
    pub port: u16,
}

/// Ending a task over HTTP: POST at 127.0.0.1, twice, each with its time to work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Of 127.0.0.1.
    pub port: u16,
    /// Asked first.
    pub graceful_shutdown_endpoint: String,
    /// Asked when the first has not helped.
    pub shutdown_endpoint: String,
    /// What the first is given.
    pub graceful_shutdown_wait: Period,
    /// What the second is given.
    pub shutdown_wait: Period,
}
