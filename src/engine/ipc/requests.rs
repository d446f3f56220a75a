//! What a client asks of a runner: one line of text a request.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream as StdStream,
};

use serde::{Deserialize, Serialize};

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Request {
    /// The status, then every event until the task is over.
    Follow {
        /// The task's id, where several may run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<String>,
    },
    /// The status, once.
    Status {
        /// The task's id, where several may run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<String>,
    },
    /// Run a process anew.
    Restart {
        /// The task's id, where several may run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<String>,
        /// The process' name.
        process: String,
    },
    /// Send a signal to a process.
    Signal {
        /// The task's id, where several may run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<String>,
        /// The process' name.
        process: String,
        /// The kernel's number.
        signal: u32,
    },
    /// End the task.
    Kill {
        /// The task's id, where several may run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<String>,
        /// SIGKILL at once, no finalizers.
        #[serde(default)]
        now: bool,
        /// Instead of finalization_wait, microseconds.
        #[serde(default)]
        budget_us: Option<u64>,
    },
}

impl Request {
    /// As it is sent.
    pub(crate) fn line(&self) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }

    /// The task that it is about.
    pub fn task(&self) -> Option<&str> {
        let (Request::Follow { task }
        | Request::Status { task }
        | Request::Restart { task, .. }
        | Request::Signal { task, .. }
        | Request::Kill { task, .. }) = self;
        task.as_deref()
    }
}

/// Sends a request to a runner.
///
/// # Errors
/// What write says.
pub fn write_request(mut socket: &StdStream, request: &Request) -> io::Result<()> {
    socket.write_all(&request.line()?)
}
