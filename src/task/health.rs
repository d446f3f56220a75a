//! Health checks and the lifecycle of a service, as types.

use serde::{Deserialize, Serialize};

use super::parse_units::Period;

/// How to tell whether something works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// What is tried.
    #[serde(flatten)]
    pub probe: Probe,
    /// The time before the first attempt.
    pub delay: Period,
    /// A grace, from the end of `delay` on: failures within it are ignored.
    pub initial_interval: Period,
    /// The time between the end of an attempt and the next.
    pub interval: Period,
    /// The time that an attempt may take.
    pub timeout: Period,
    /// One failure in a row more than these is the end.
    pub max_consecutive_failures: u32,
    /// Successes in a row that make it healthy.
    pub min_consecutive_successes: u32,
    /// Being healthy once ends the grace: Mesos' rule, not Aurora's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grace_ends_early: bool,
    /// The grace is a time. Otherwise it is the attempts that fit into it, however long they take:
    /// Aurora's rule, and that of every task before this field was there. No task file has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grace_is_time: bool,
}

impl Health {
    /// Attempts by `probe`, as often as a task file has them by default: the numbers of Aurora's
    /// HealthCheckConfig.
    pub fn of(probe: Probe) -> Health {
        Health {
            probe,
            delay: Period::from_secs(0),
            initial_interval: Period::from_secs(15),
            interval: Period::from_secs(10),
            timeout: Period::from_secs(1),
            max_consecutive_failures: 0,
            min_consecutive_successes: 1,
            grace_ends_early: false,
            grace_is_time: true,
        }
    }
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
    /// A port of 127.0.0.1.
    pub port: u16,
    /// The path, with its query.
    pub path: String,
    /// The right status; 0: any from 200 to 399.
    pub status: u16,
    /// The right body, without case and outer spaces; empty: any.
    pub body: String,
}

impl HttpProbe {
    /// GET at `port`, with the path and the answers of a task file by default.
    pub fn at(port: u16) -> HttpProbe {
        HttpProbe {
            port,
            path: "/health".to_owned(),
            status: 0,
            body: String::new(),
        }
    }
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcpProbe {
    /// A port of 127.0.0.1.
    pub port: u16,
}

/// Ending a task over HTTP: POST at 127.0.0.1, twice, each with its time to work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// A port of 127.0.0.1.
    pub port: u16,
    /// The path that is asked first.
    pub graceful_shutdown_endpoint: String,
    /// The path that is asked when the task has not ended after the first.
    pub shutdown_endpoint: String,
    /// The time that the task has after the first request.
    pub graceful_shutdown_wait: Period,
    /// The time that the task has after the second request.
    pub shutdown_wait: Period,
}

impl Lifecycle {
    /// Requests at `port`, with the defaults of Aurora's HttpLifecycleConfig.
    pub fn at(port: u16) -> Lifecycle {
        const WAIT: Period = Period::from_secs(5);
        Lifecycle {
            port,
            graceful_shutdown_endpoint: "/quitquitquit".to_owned(),
            shutdown_endpoint: "/abortabortabort".to_owned(),
            graceful_shutdown_wait: WAIT,
            shutdown_wait: WAIT,
        }
    }
}
