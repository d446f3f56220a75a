//! The clients of the runner's socket: one request a line in, one event a line out, both as JSON.
//!
//! A client that does not read is cut off, never waited for: it may connect again and starts with a
//! fresh status. A client that leaves is forgotten at once. Only the runner's own user and root are
//! served. What requests mean is the engine's to decide.

use std::{collections::HashMap, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::mpsc,
    task::JoinHandle,
};

use crate::engine::ipc::Request;

/// Lines that wait for a slow client before it is cut off.
const BACKLOG: usize = 4096;
/// Bytes of a request, at most.
const LONGEST_LINE: u64 = 4096;
/// Clients at a time, at most; more wait in the socket's queue.
const MOST: usize = 256;

/// A client's number.
pub(super) type ClientId = u64;

/// A message of one client, or its leaving.
#[derive(Debug)]
pub(super) enum ClientMessage {
    Request(ClientId, Request),
    /// A line that is no request, and why not.
    Malformed(ClientId, String),
    /// The client closed its end.
    Left(ClientId),
}

/// All clients of this moment.
#[derive(Debug)]
pub(super) struct Clients {
    messages: mpsc::Sender<ClientMessage>,
    next: ClientId,
    all: HashMap<ClientId, Client>,
    /// The writers of clients that were let go, as long as they still have lines to write.
    released: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Client {
    outlet: mpsc::Sender<Arc<str>>,
    /// The number of the task that it follows.
    follows: Option<u32>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Clients {
    /// No clients yet; what they send goes into `messages`.
    pub fn new(messages: mpsc::Sender<ClientMessage>) -> Clients {
        Clients {
            messages,
            next: 0,
            all: HashMap::new(),
            released: Vec::new(),
        }
    }

    /// False while there are so many that others have to wait.
    pub fn has_room(&self) -> bool {
        self.all.len() < MOST
    }

    /// Serves one more client.
    pub fn add(&mut self, stream: UnixStream) {
        let id = self.next;
        self.next += 1;
        let (outlet, lines) = mpsc::channel(BACKLOG);
        let (read, write) = stream.into_split();
        let client = Client {
            outlet,
            follows: None,
            reader: tokio::spawn(read_requests(id, read, self.messages.clone())),
            writer: tokio::spawn(write_lines(write, lines)),
        };
        self.all.insert(id, client);
    }

    /// Forgets a client that left or must leave.
    pub fn remove(&mut self, id: ClientId) {
        if let Some(client) = self.all.remove(&id) {
            client.reader.abort();
            client.writer.abort();
        }
    }

    /// From now on the client gets all events of `task`.
    pub fn follow(&mut self, id: ClientId, task: u32) {
        if let Some(client) = self.all.get_mut(&id) {
            client.follows = Some(task);
        }
    }

    /// True when a client follows `task`.
    pub fn has_followers(&self, task: u32) -> bool {
        self.all.values().any(|client| client.follows == Some(task))
    }

    /// Sends a line to one client; a client that has not read for too long is cut off.
    pub fn send(&mut self, id: ClientId, line: &Arc<str>) {
        let client = self.all.get(&id);
        if client.is_some_and(|client| client.outlet.try_send(Arc::clone(line)).is_err()) {
            self.remove(id);
        }
    }

    /// Sends a line to all clients that follow `task`.
    pub fn broadcast(&mut self, task: u32, line: &Arc<str>) {
        for id in self.followers(task) {
            self.send(id, line);
        }
    }

    /// Lets the clients go that follow `task`: they get the lines that wait for them, then the end
    /// of the stream.
    pub fn release(&mut self, task: u32) {
        for id in self.followers(task) {
            if let Some(client) = self.all.remove(&id) {
                client.reader.abort();
                self.released.push(client.writer);
            }
        }
        self.released.retain(|writer| !writer.is_finished());
    }

    fn followers(&self, task: u32) -> Vec<ClientId> {
        let follows = |client: &Client| client.follows == Some(task);
        let followers = self.all.iter().filter(|(_, client)| follows(client));
        followers.map(|(id, _)| *id).collect()
    }

    /// Reads no more requests, and waits until every line has been written.
    pub async fn finish(self) {
        let mut writers = self.released;
        for (_, client) in self.all {
            client.reader.abort();
            writers.push(client.writer);
        }
        for writer in writers {
            if let Err(error) = writer.await
                && !error.is_cancelled()
            {
                tracing::error!("serving a client: {error}");
            }
        }
    }
}

async fn read_requests(
    id: ClientId,
    read: tokio::net::unix::OwnedReadHalf,
    messages: mpsc::Sender<ClientMessage>,
) {
    let mut requests = BufReader::new(read.take(LONGEST_LINE));
    let mut line = String::new();
    while requests
        .read_line(&mut line)
        .await
        .is_ok_and(|count| count > 0)
    {
        let message = match serde_json::from_str(line.trim_end()) {
            Ok(request) => ClientMessage::Request(id, request),
            Err(error) => ClientMessage::Malformed(id, error.to_string()),
        };
        if messages.send(message).await.is_err() {
            return;
        }
        line.clear();
        requests.get_mut().set_limit(LONGEST_LINE);
    }
    if messages.send(ClientMessage::Left(id)).await.is_err() {
        tracing::debug!("a client left after the engine had ended");
    }
}

async fn write_lines(
    mut write: tokio::net::unix::OwnedWriteHalf,
    mut lines: mpsc::Receiver<Arc<str>>,
) {
    while let Some(line) = lines.recv().await {
        // A client that left ends only its own stream.
        if write.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
}

/// True when the peer's user is root or the runner's own.
pub(super) fn is_allowed(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) => peer.uid() == own || peer.uid() == 0,
        Err(error) => {
            tracing::warn!("a client without credentials: {error}");
            false
        }
    }
}
