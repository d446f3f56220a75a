//! What the fake agent's connections and its handle share.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use super::core::{AgentCore, Answer, Refusal};
use crate::mesos::protocol::{
    Wire, encode_record,
    messages::executor::{Call, Event, call},
};

/// The state behind a lock, and how its changes are announced.
pub(super) struct Shared {
    pub token: Option<String>,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    /// True while the agent is up.
    pub(super) up: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a call, and returns the receiver of events if the call opens a stream.
    pub fn call(
        self: &Arc<Shared>,
        call: Call,
        wire: Wire,
    ) -> Result<Option<mpsc::UnboundedReceiver<Bytes>>, Refusal> {
        let mut state = self.lock();
        let refused = Refusal {
            status: 503,
            why: "Agent has not finished recovery",
        };
        let is_over = |at: Instant| at <= Instant::now();
        if state.recovered_at.is_some_and(is_over) {
            state.recovered_at = None;
            state.core.recovering = false;
        }
        if call.r#type() == call::Type::Update && state.refuse > 0 {
            state.refuse -= 1;
            return Err(refused);
        }
        let answer = state.core.call(call);
        self.changed.notify_all();
        match answer? {
            Answer::Stream(events) => {
                let (send, receive) = mpsc::unbounded_channel();
                // A second subscription ends the first stream cleanly.
                state.stream = Some(Stream { send, wire });
                state.subscriptions += 1;
                state.send(events);
                Ok(Some(receive))
            }
            Answer::Accepted(events) => {
                for event in events {
                    match state.mute {
                        0 if state.late > Duration::ZERO => {
                            let (late, shared) = (state.late, Arc::clone(self));
                            thread::spawn(move || {
                                thread::sleep(late);
                                shared.lock().send(vec![event]);
                            });
                        }
                        0 => state.send(vec![event]),
                        _ => state.mute -= 1,
                    }
                }
                Ok(None)
            }
        }
    }
}

pub(super) struct State {
    pub(super) core: AgentCore,
    pub(super) stream: Option<Stream>,
    pub(super) connections: Vec<AbortHandle>,
    pub(super) refuse: u32,
    pub(super) mute: u32,
    pub(super) late: Duration,
    pub(super) duplicate: bool,
    pub(super) pieces: Option<usize>,
    pub(super) recovered_at: Option<Instant>,
    pub(super) subscriptions: u32,
}

impl State {
    /// Sends events on the stream; without a stream they are lost.
    pub(super) fn send(&mut self, events: Vec<Event>) {
        let times = if self.duplicate { 2 } else { 1 };
        for event in events {
            let Some(wire) = self.stream.as_ref().map(|stream| stream.wire) else {
                return;
            };
            match wire.encode(&event) {
                Ok(bytes) => {
                    for _ in 0..times {
                        self.put(&encode_record(&bytes));
                    }
                }
                Err(error) => tracing::error!("an event that cannot be written: {error}"),
            }
        }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        let size = self.pieces.unwrap_or(bytes.len()).max(1);
        if let Some(stream) = &self.stream {
            let mut pieces = bytes.chunks(size);
            let sent = pieces.all(|piece| stream.send.send(Bytes::copy_from_slice(piece)).is_ok());
            if !sent {
                self.stream = None;
            }
        }
    }

    pub(super) fn drop_connections(&mut self) {
        self.stream = None;
        for connection in self.connections.drain(..) {
            connection.abort();
        }
    }
}

pub(super) struct Stream {
    pub(super) send: mpsc::UnboundedSender<Bytes>,
    wire: Wire,
}
