//! The handle of the fake master, as tests use it, and the thread that serves.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use tokio::sync::{mpsc, watch};

use super::{
    core::Master,
    faults::Fault,
    server,
    shared::{Options, Shared, State},
};
use crate::mesos::{
    fakes::listening::accept_while_up,
    protocol::messages::scheduler::{Event, call},
};

/// A fake master that listens.
pub struct FakeMaster {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<thread::JoinHandle<()>>,
    stop: Option<mpsc::UnboundedSender<Infallible>>,
}

impl FakeMaster {
    /// Starts to listen.
    ///
    /// # Errors
    /// If a system call fails.
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

    /// The address as `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Makes a fault happen.
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

    /// Looks at the master's state.
    pub fn look<T>(&self, look: impl FnOnce(&Master) -> T) -> T {
        look(&self.shared.lock().master)
    }

    /// Changes the master's state, and sends the events that follow.
    pub fn change(&self, change: impl FnOnce(&mut Master) -> Vec<Event>) {
        let mut state = self.shared.lock();
        let events = change(&mut state.master);
        state.send(events);
        state.play();
    }

    /// How often a scheduler has subscribed.
    pub fn subscriptions(&self) -> u32 {
        self.shared.lock().subscriptions
    }

    /// The types of all calls that came, in order.
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
