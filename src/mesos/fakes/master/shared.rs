//! What the fake master's connections and its handle share.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use super::{
    agent::AgentSpec,
    core::{Master, Refusal},
};
use crate::mesos::protocol::{
    Wire, encode_record,
    messages::{
        TaskInfo, TaskState,
        scheduler::{Call, Event, call, event},
    },
};

/// The state behind a lock, and whether the master is up.
pub(super) struct Shared {
    pub leader: Option<String>,
    pub authorization: Option<String>,
    pub(super) state: Mutex<State>,
    pub(super) up: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn subscribe(
        &self,
        call: &Call,
        wire: Wire,
    ) -> Result<(String, mpsc::UnboundedReceiver<Bytes>), Refusal> {
        let mut state = self.lock();
        let now = state.now();
        let events = state.master.call(call, now)?;
        let (send, receive) = mpsc::unbounded_channel();
        state.subscriptions += 1;
        let id = format!("stream-{}", state.subscriptions);
        state.stream = Some(Stream {
            id: id.clone(),
            wire,
            send,
            is_silent: false,
        });
        let interval = state.heartbeat.as_secs_f64();
        let events = events.into_iter().map(|mut event| {
            if let Some(subscribed) = &mut event.subscribed {
                subscribed.heartbeat_interval_seconds = Some(interval);
            }
            event
        });
        let events = events.collect();
        state.send(events);
        Ok((id, receive))
    }

    pub fn call(&self, call: &Call, stream_id: Option<&str>) -> Result<(), Refusal> {
        let mut state = self.lock();
        let bad = |why: &str| {
            Err(Refusal {
                status: 400,
                why: why.to_owned(),
            })
        };
        let is_right = state.stream.as_ref().map(|stream| stream.id.as_str()) == stream_id;
        if !is_right || count_down(&mut state.wrong_ids) {
            return bad("The stream ID included in this request didn't match the stream ID");
        }
        let kind = call.r#type();
        state.calls.push(kind);
        let is_lost = match kind {
            call::Type::Acknowledge => count_down(&mut state.lose_acks),
            call::Type::Kill => count_down(&mut state.lose_kills),
            _ => false,
        };
        if is_lost {
            return Ok(());
        }
        if kind == call::Type::Accept && count_down(&mut state.rescind_accepted) {
            let events = state.master.rescind(None);
            state.send(events);
        }
        let now = state.now();
        let events = state.master.call(call, now)?;
        state.send(events);
        state.play();
        Ok(())
    }
}

pub(super) struct State {
    pub(super) master: Master,
    pub(super) script: Script,
    pub(super) stream: Option<Stream>,
    pub(super) subscriptions: u32,
    pub(super) connections: Vec<AbortHandle>,
    pub(super) began: Instant,
    pub(super) heartbeat: Duration,
    pub(super) lose_acks: u32,
    pub(super) lose_kills: u32,
    pub(super) wrong_ids: u32,
    pub(super) rescind_accepted: u32,
    pub(super) duplicate: bool,
    pub(super) reorder: bool,
    /// Tasks whose script has been played.
    pub(super) played: std::collections::BTreeSet<String>,
    pub(super) calls: Vec<call::Type>,
}

impl State {
    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Plays the scripts of tasks that were launched, and ends the tasks that are to be killed.
    pub(super) fn play(&mut self) {
        let new: Vec<String> = self
            .master
            .tasks()
            .into_iter()
            .map(|(id, ..)| id)
            .filter(|id| !self.played.contains(id))
            .collect();
        for id in new {
            let states = self.master.info(&id).map(|info| (self.script)(info));
            self.played.insert(id.clone());
            for state in states.unwrap_or_default() {
                let events = self
                    .master
                    .task_update(&id, state, None, "as its script says");
                self.send(events);
            }
        }
        while let Some(id) = self.master.next_kill() {
            let events = self
                .master
                .task_update(&id, TaskState::TaskKilled, None, "killed");
            self.send(events);
        }
    }

    /// Sends events on the stream; without a stream they are lost.
    pub(super) fn send(&mut self, mut events: Vec<Event>) {
        let is_update = |event: &Event| event.r#type() == event::Type::Update;
        if self.reorder && events.len() > 1 && events.iter().all(is_update) {
            let id = |event: &Event| event.update.as_ref().map(|one| one.status.task_id.clone());
            let last = events.len() - 1;
            if id(&events[last]) != id(&events[last - 1]) {
                events.swap(last - 1, last);
            }
        }
        for event in events {
            let times = match self.duplicate && is_update(&event) {
                true => 2,
                false => 1,
            };
            let Some(stream) = self.stream.as_ref().filter(|stream| !stream.is_silent) else {
                return;
            };
            match stream.wire.encode(&event) {
                Ok(bytes) => {
                    for _ in 0..times {
                        // A scheduler that has left subscribes anew.
                        let _ = stream.send.send(Bytes::from(encode_record(&bytes)));
                    }
                }
                Err(error) => tracing::error!("an event that cannot be written: {error}"),
            }
        }
    }

    pub(super) fn drop_connections(&mut self) {
        self.stream = None;
        for connection in self.connections.drain(..) {
            connection.abort();
        }
    }

    /// Does what a master does by the clock: offers, heartbeats, repeated updates.
    pub(super) fn tick(&mut self, is_heartbeat: bool) {
        let now = self.now();
        let offers = self.master.offer(now);
        self.send(offers);
        if is_heartbeat {
            let mut events = vec![Event {
                r#type: Some(event::Type::Heartbeat.into()),
                ..Event::default()
            }];
            // Agents repeat what was not acknowledged.
            events.extend(self.master.resend());
            self.send(events);
        }
    }
}

pub(super) struct Stream {
    id: String,
    wire: Wire,
    send: mpsc::UnboundedSender<Bytes>,
    pub(super) is_silent: bool,
}

/// The states of a task that is launched, one right after the other.
pub type Script = Box<dyn Fn(&TaskInfo) -> Vec<TaskState> + Send>;

/// The settings of a fake master.
pub struct Options {
    /// The agents and their resources.
    pub agents: Vec<AgentSpec>,
    /// Redirect to this leading master.
    pub leader: Option<String>,
    /// The required value of the Authorization header.
    pub authorization: Option<String>,
    /// The interval of heartbeats.
    pub heartbeat: Duration,
    /// The interval of offers, as in a real master.
    pub allocation: Duration,
    /// What becomes of tasks.
    pub script: Script,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            agents: Vec::new(),
            leader: None,
            authorization: None,
            heartbeat: Duration::from_secs(15),
            allocation: Duration::from_millis(10),
            script: Box::new(|_| vec![TaskState::TaskStarting, TaskState::TaskRunning]),
        }
    }
}

fn count_down(count: &mut u32) -> bool {
    let is_one = *count > 0;
    *count = count.saturating_sub(1);
    is_one
}
