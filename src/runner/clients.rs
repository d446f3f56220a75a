//! The socket: one JSON object a line in, one event a line out.
//!
//! A client that does not read is dropped, never waited for; it may come again and starts with a
//! fresh status. Only our own user and root are served.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream as StdStream,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::mpsc,
    task::JoinHandle,
};

/// Lines that wait for a slow client before it is dropped.
const BACKLOG: usize = 4096;
/// A request is never longer than this.
const LONGEST_LINE: u64 = 4096;

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Request {
    /// The status, then every event until the task is over.
    Follow,
    /// The status, once.
    Status,
    /// End the task.
    Kill {
        /// SIGKILL at once, no finalizers.
        #[serde(default)]
        now: bool,
        /// Instead of finalization_wait, microseconds.
        #[serde(default)]
        budget_us: Option<u64>,
    },
}

/// Sends a request to a runner.
///
/// # Errors
/// What write says.
pub fn write_request(mut socket: &StdStream, request: &Request) -> io::Result<()> {
    let mut line = serde_json::to_vec(request).map_err(io::Error::from)?;
    line.push(b'\n');
    socket.write_all(&line)
}

/// Where a client's lines go.
pub(super) type Outlet = mpsc::Sender<Arc<str>>;

/// What the engine hears of its clients.
#[derive(Debug)]
pub(super) enum Heard {
    Request(Request, Outlet),
    Nonsense(String, Outlet),
}

/// The two halves of a conversation.
#[derive(Debug)]
pub(super) struct Client {
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Client {
    pub fn is_gone(&self) -> bool {
        self.reader.is_finished() && self.writer.is_finished()
    }

    /// Listens no more, and waits until everything that was said has got out.
    pub async fn finish(self) {
        self.reader.abort();
        for half in [self.reader, self.writer] {
            if let Err(error) = half.await
                && !error.is_cancelled()
            {
                tracing::error!("serving a client: {error}");
            }
        }
    }
}

/// Serves one client until it leaves. The writing half ends when the last outlet is dropped.
pub(super) fn serve(stream: UnixStream, heard: mpsc::Sender<Heard>) -> Client {
    let (outlet, mut lines) = mpsc::channel::<Arc<str>>(BACKLOG);
    let (read, mut write) = stream.into_split();
    let reader = tokio::spawn(async move {
        let mut requests = BufReader::new(tokio::io::AsyncReadExt::take(read, LONGEST_LINE));
        let mut line = String::new();
        while let Ok(count) = requests.read_line(&mut line).await {
            if count == 0 {
                break;
            }
            let request = serde_json::from_str(line.trim_end());
            let message = match request {
                Ok(request) => Heard::Request(request, outlet.clone()),
                Err(error) => Heard::Nonsense(error.to_string(), outlet.clone()),
            };
            if heard.send(message).await.is_err() {
                break;
            }
            line.clear();
            requests.get_mut().set_limit(LONGEST_LINE);
        }
    });
    let writer = tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            // A client that left ends its own conversation and nobody else's.
            if write.write_all(line.as_bytes()).await.is_err() {
                break;
            }
        }
    });
    Client { reader, writer }
}

/// True when the peer is root or us.
pub(super) fn may_speak(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) => peer.uid() == own || peer.uid() == 0,
        Err(error) => {
            tracing::warn!("a client without credentials: {error}");
            false
        }
    }
}
