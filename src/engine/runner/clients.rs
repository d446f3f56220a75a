//! The socket: one JSON object a line in, one event a line out.
//!
//! A client that does not read is cut off, never waited for: it may come again and starts with a
//! fresh status. A client that leaves is forgotten at once. Only our own user and root are served.

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
/// A request is never longer than this.
const LONGEST_LINE: u64 = 4096;
/// Clients at a time; more wait in the socket's queue.
const MOST: usize = 256;

/// A client's number.
pub(super) type ClientId = u64;

/// What the engine hears of its clients.
#[derive(Debug)]
pub(super) enum Heard {
    Request(ClientId, Request),
    Nonsense(ClientId, String),
    Gone(ClientId),
}

/// All clients of this moment.
#[derive(Debug)]
pub(super) struct Clients {
    heard: mpsc::Sender<Heard>,
    next: ClientId,
    all: HashMap<ClientId, Client>,
    /// They still say what was said.
    released: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Client {
    outlet: mpsc::Sender<Arc<str>>,
    /// The task that it follows.
    follows: Option<u32>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Clients {
    pub fn new(heard: mpsc::Sender<Heard>) -> Clients {
        Clients {
            heard,
            next: 0,
            all: HashMap::new(),
            released: Vec::new(),
        }
    }

    /// False while there are so many that others have to wait.
    pub fn has_room(&self) -> bool {
        self.all.len() < MOST
    }

    /// Serves one more.
    pub fn add(&mut self, stream: UnixStream) {
        let id = self.next;
        self.next += 1;
        let (outlet, lines) = mpsc::channel(BACKLOG);
        let (read, write) = stream.into_split();
        let client = Client {
            outlet,
            follows: None,
            reader: tokio::spawn(listen(id, read, self.heard.clone())),
            writer: tokio::spawn(speak(write, lines)),
        };
        self.all.insert(id, client);
    }

    /// Forgets one that left or must leave.
    pub fn remove(&mut self, id: ClientId) {
        if let Some(client) = self.all.remove(&id) {
            client.reader.abort();
            client.writer.abort();
        }
    }

    pub fn follow(&mut self, id: ClientId, task: u32) {
        if let Some(client) = self.all.get_mut(&id) {
            client.follows = Some(task);
        }
    }

    pub fn has_followers(&self, task: u32) -> bool {
        self.all.values().any(|client| client.follows == Some(task))
    }

    /// Says something to one.
    pub fn tell(&mut self, id: ClientId, line: &Arc<str>) {
        let client = self.all.get(&id);
        if client.is_some_and(|client| client.outlet.try_send(Arc::clone(line)).is_err()) {
            self.remove(id);
        }
    }

    /// Says something to all that follow `task`.
    pub fn broadcast(&mut self, task: u32, line: &Arc<str>) {
        for id in self.followers(task) {
            self.tell(id, line);
        }
    }

    /// Those that follow `task` get what was said, and then the end of the conversation.
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

    /// Listens no more, and waits until everything that was said has got out.
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

async fn listen(id: ClientId, read: tokio::net::unix::OwnedReadHalf, heard: mpsc::Sender<Heard>) {
    let mut requests = BufReader::new(read.take(LONGEST_LINE));
    let mut line = String::new();
    while requests
        .read_line(&mut line)
        .await
        .is_ok_and(|count| count > 0)
    {
        let message = match serde_json::from_str(line.trim_end()) {
            Ok(request) => Heard::Request(id, request),
            Err(error) => Heard::Nonsense(id, error.to_string()),
        };
        if heard.send(message).await.is_err() {
            return;
        }
        line.clear();
        requests.get_mut().set_limit(LONGEST_LINE);
    }
    // The engine may be at its end already.
    let _ = heard.send(Heard::Gone(id)).await;
}

async fn speak(mut write: tokio::net::unix::OwnedWriteHalf, mut lines: mpsc::Receiver<Arc<str>>) {
    while let Some(line) = lines.recv().await {
        // A client that left ends its own conversation and nobody else's.
        if write.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
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
