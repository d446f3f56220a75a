//! The master as tests hold it: a thread that serves, and a handle.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use super::{
    core::{AgentSpec, Master, Refusal},
    faults::Fault,
    server,
};
use crate::mesos::{
    fakes::listening::accept_while_up,
    protocol::{
        Wire, encode_record,
        messages::{
            TaskInfo, TaskState,
            scheduler::{Call, Event, call, event},
        },
    },
};

/// What becomes of a task that is launched: its states, one right after the other.
pub type Script = Box<dyn Fn(&TaskInfo) -> Vec<TaskState> + Send>;

/// How a master is set up.
pub struct Options {
    /// What it has to offer.
    pub agents: Vec<AgentSpec>,
    /// It only knows who leads.
    pub leader: Option<String>,
    /// What Authorization must be.
    pub authorization: Option<String>,
    /// A sign of life comes so often.
    pub heartbeat: Duration,
    /// Offers are made so often, as a real master does it.
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

/// What the handle and the connections share.
pub(super) struct Shared {
    pub leader: Option<String>,
    pub authorization: Option<String>,
    state: Mutex<State>,
    up: watch::Sender<bool>,
}

struct State {
    master: Master,
    script: Script,
    stream: Option<Stream>,
    subscriptions: u32,
    connections: Vec<AbortHandle>,
    began: Instant,
    heartbeat: Duration,
    lose_acks: u32,
    lose_kills: u32,
    wrong_ids: u32,
    rescind_accepted: u32,
    duplicate: bool,
    reorder: bool,
    /// Tasks whose script has run.
    played: std::collections::BTreeSet<String>,
    calls: Vec<call::Type>,
}

struct Stream {
    id: String,
    wire: Wire,
    send: mpsc::UnboundedSender<Bytes>,
    is_silent: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
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

fn count_down(count: &mut u32) -> bool {
    let is_one = *count > 0;
    *count = count.saturating_sub(1);
    is_one
}

impl State {
    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Tasks that began do what their script says; those that are killed end.
    fn play(&mut self) {
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
                let events = self.master.news(&id, state, None, "as its script says");
                self.send(events);
            }
        }
        while let Some(id) = self.master.next_kill() {
            let events = self.master.news(&id, TaskState::TaskKilled, None, "killed");
            self.send(events);
        }
    }

    /// Puts events on the stream; without one they are gone.
    fn send(&mut self, mut events: Vec<Event>) {
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
                        // A reader that is gone subscribes anew.
                        let _ = stream.send.send(Bytes::from(encode_record(&bytes)));
                    }
                }
                Err(error) => tracing::error!("an event that cannot be written: {error}"),
            }
        }
    }

    fn drop_connections(&mut self) {
        self.stream = None;
        for connection in self.connections.drain(..) {
            connection.abort();
        }
    }

    /// What a master does by the clock.
    fn tick(&mut self, is_heartbeat: bool) {
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

/// A master that listens.
pub struct FakeMaster {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<thread::JoinHandle<()>>,
    stop: Option<mpsc::UnboundedSender<Infallible>>,
}

impl FakeMaster {
    /// Begins to listen.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(options: Options) -> io::Result<FakeMaster> {
        let shared = Arc::new(Shared {
            leader: options.leader,
            authorization: options.authorization,
            state: Mutex::new(State {
                master: Master::new(&options.agents),
                script: options.script,
                stream: None,
                subscriptions: 0,
                connections: Vec::new(),
                began: Instant::now(),
                heartbeat: options.heartbeat,
                lose_acks: 0,
                lose_kills: 0,
                wrong_ids: 0,
                rescind_accepted: 0,
                duplicate: false,
                reorder: false,
                played: std::collections::BTreeSet::new(),
                calls: Vec::new(),
            }),
            up: watch::Sender::new(true),
        });
        let first = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = first.local_addr()?;
        first.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = mpsc::unbounded_channel();
        let theirs = Arc::clone(&shared);
        let (heartbeat, allocation) = (options.heartbeat, options.allocation);
        let thread = thread::Builder::new()
            .name("fake-master".to_owned())
            .spawn(move || {
                let clock = Arc::clone(&theirs);
                runtime.spawn(async move {
                    let mut next = Instant::now() + heartbeat;
                    loop {
                        tokio::time::sleep(allocation).await;
                        let is_heartbeat = Instant::now() >= next;
                        if is_heartbeat {
                            next = Instant::now() + heartbeat;
                        }
                        clock.lock().tick(is_heartbeat);
                    }
                });
                if let Err(error) = runtime.block_on(run(theirs, first, stopped)) {
                    tracing::error!("the fake master cannot serve: {error}");
                }
            })?;
        Ok(FakeMaster {
            shared,
            address,
            thread: Some(thread),
            stop: Some(stop),
        })
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Makes something go wrong.
    pub fn inflict(&self, fault: Fault) {
        let mut state = self.shared.lock();
        match fault {
            Fault::Drop => state.drop_connections(),
            Fault::Down(time) => {
                state.drop_connections();
                drop(state);
                self.shared.up.send_replace(false);
                thread::sleep(time);
                self.shared.up.send_replace(true);
            }
            Fault::LoseAcknowledgements(count) => state.lose_acks = count,
            Fault::LoseKills(count) => state.lose_kills = count,
            Fault::Duplicate => state.duplicate = true,
            Fault::Reorder => state.reorder = true,
            Fault::WrongStreamId(count) => state.wrong_ids = count,
            Fault::RescindAccepted(count) => state.rescind_accepted = count,
            Fault::Silence => {
                if let Some(stream) = &mut state.stream {
                    stream.is_silent = true;
                }
            }
        }
    }

    /// Looks at what the master knows.
    pub fn look<T>(&self, look: impl FnOnce(&Master) -> T) -> T {
        look(&self.shared.lock().master)
    }

    /// Changes something at the master, and sends what follows from that.
    pub fn change(&self, change: impl FnOnce(&mut Master) -> Vec<Event>) {
        let mut state = self.shared.lock();
        let events = change(&mut state.master);
        state.send(events);
        state.play();
    }

    /// How often somebody has subscribed.
    pub fn subscriptions(&self) -> u32 {
        self.shared.lock().subscriptions
    }

    /// The kinds of all calls that came, in order.
    pub fn calls(&self) -> Vec<call::Type> {
        self.shared.lock().calls.clone()
    }
}

impl Drop for FakeMaster {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the fake master's thread panicked");
        }
    }
}

async fn run(
    shared: Arc<Shared>,
    first: std::net::TcpListener,
    stopped: mpsc::UnboundedReceiver<Infallible>,
) -> io::Result<()> {
    let up = shared.up.subscribe();
    accept_while_up(first, None, up, stopped, |stream| {
        let served = tokio::spawn(server::serve(stream, Arc::clone(&shared)));
        let mut state = shared.lock();
        state
            .connections
            .retain(|connection| !connection.is_finished());
        state.connections.push(served.abort_handle());
    })
    .await
}
