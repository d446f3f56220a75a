//! The handle of the fake agent, as tests and `dewar fake-agent` use it, and the thread that
//! serves.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::sync::{mpsc, watch};

use super::{
    core::AgentCore,
    faults::Fault,
    server,
    shared::{Shared, State},
};
use crate::mesos::{
    fakes::listening::accept_while_up,
    protocol::{
        is_terminal,
        messages::{TaskInfo, TaskState, TaskStatus},
    },
};

/// The settings of a fake agent.
#[derive(Clone, Debug)]
pub struct Options {
    /// The framework's id.
    pub framework_id: String,
    /// The executor's id.
    pub executor_id: String,
    /// The token that executors must send.
    pub token: Option<String>,
    /// A socket to listen at besides the port.
    pub socket: Option<PathBuf>,
    /// The framework uses checkpoints: the executor may outlive the agent.
    pub checkpoint: bool,
    /// How long an agent may be away.
    pub recovery_timeout: Duration,
    /// How long the executor lives after SHUTDOWN.
    pub grace_period: Duration,
    /// How long updates are refused after a restart.
    pub recovering: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            framework_id: "fake-framework".to_owned(),
            executor_id: "dewar".to_owned(),
            token: None,
            socket: None,
            checkpoint: true,
            recovery_timeout: Duration::from_secs(15 * 60),
            grace_period: Duration::from_secs(5),
            recovering: Duration::from_millis(200),
        }
    }
}

/// Why a fake agent cannot start.
#[derive(Debug, Error)]
pub enum FakeAgentError {
    /// A system call failed.
    #[error("cannot serve: {0}")]
    Io(#[from] io::Error),
}

/// A fake agent that listens.
pub struct FakeAgent {
    shared: Arc<Shared>,
    options: Options,
    address: SocketAddr,
    thread: Option<thread::JoinHandle<()>>,
    stop: Option<mpsc::UnboundedSender<Infallible>>,
}

impl FakeAgent {
    /// Starts to listen.
    ///
    /// # Errors
    /// If a system call fails.
    pub fn start(options: Options) -> Result<FakeAgent, FakeAgentError> {
        let agent_id = "fake-agent";
        let shared = Arc::new(Shared {
            token: options.token.clone(),
            state: Mutex::new(State {
                core: AgentCore::new(&options.framework_id, &options.executor_id, agent_id),
                stream: None,
                connections: Vec::new(),
                refuse: 0,
                mute: 0,
                late: Duration::ZERO,
                duplicate: false,
                pieces: None,
                recovered_at: None,
                subscriptions: 0,
            }),
            changed: Condvar::new(),
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
        let socket = options.socket.clone();
        let thread = thread::Builder::new()
            .name("fake-agent".to_owned())
            .spawn(move || {
                let served = runtime.block_on(run(theirs, first, socket, stopped));
                if let Err(error) = served {
                    tracing::error!("the fake agent cannot serve: {error}");
                }
            })?;
        Ok(FakeAgent {
            shared,
            options,
            address,
            thread: Some(thread),
            stop: Some(stop),
        })
    }

    /// The environment of an executor of this agent.
    pub fn environment(&self, sandbox: &Path) -> BTreeMap<String, String> {
        let seconds = |duration: Duration| format!("{}secs", duration.as_secs_f64());
        let options = &self.options;
        let sandbox = sandbox.display().to_string();
        let mut environment = BTreeMap::from([
            ("MESOS_FRAMEWORK_ID", options.framework_id.clone()),
            ("MESOS_EXECUTOR_ID", options.executor_id.clone()),
            ("MESOS_DIRECTORY", sandbox.clone()),
            ("MESOS_SANDBOX", sandbox),
            ("MESOS_SLAVE_ID", "fake-agent".to_owned()),
            ("MESOS_SLAVE_PID", format!("slave(1)@{}", self.address)),
            ("MESOS_AGENT_ENDPOINT", self.address.to_string()),
            ("MESOS_CHECKPOINT", u8::from(options.checkpoint).to_string()),
            (
                "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD",
                seconds(options.grace_period),
            ),
            ("MESOS_HTTP_COMMAND_EXECUTOR", "0".to_owned()),
            ("LIBPROCESS_IP", "127.0.0.1".to_owned()),
            ("LIBPROCESS_PORT", "0".to_owned()),
        ]);
        if options.checkpoint {
            let recovery = seconds(options.recovery_timeout);
            environment.insert("MESOS_RECOVERY_TIMEOUT", recovery);
            environment.insert("MESOS_SUBSCRIPTION_BACKOFF_MAX", "2secs".to_owned());
        }
        if let Some(token) = &options.token {
            environment.insert("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", token.clone());
        }
        if let Some(socket) = &options.socket {
            environment.insert("MESOS_DOMAIN_SOCKET", socket.display().to_string());
        }
        let named = environment.into_iter();
        named
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// Hands tasks to the executor, as one group or one by one.
    pub fn launch(&self, tasks: Vec<TaskInfo>, as_group: bool) {
        let mut state = self.shared.lock();
        let has_stream = state.stream.is_some();
        let events = state.core.launch(tasks, as_group, has_stream);
        state.send(events);
    }

    /// Asks the executor to kill a task. The request is lost without a stream.
    pub fn kill(&self, task: &str, grace: Option<Duration>) {
        let mut state = self.shared.lock();
        let grace = grace.map(|grace| grace.as_nanos() as i64);
        let event = state.core.kill(task, grace);
        state.send(vec![event]);
    }

    /// Asks the executor to shut down; every later stream begins with that.
    pub fn shutdown(&self) {
        let mut state = self.shared.lock();
        state.core.shut_down = true;
        state.send(vec![AgentCore::shutdown()]);
    }

    /// Makes a fault happen.
    pub fn inflict(&self, fault: Fault) {
        let mut state = self.shared.lock();
        match fault {
            Fault::Drop => state.drop_connections(),
            Fault::Down(_) => {
                state.drop_connections();
                drop(state);
                self.shared.up.send_replace(false);
            }
            Fault::Refuse(count) => state.refuse = count,
            Fault::Mute(count) => state.mute = count,
            Fault::Late(time) => state.late = time,
            Fault::Duplicate => state.duplicate = true,
            Fault::Pieces(size) => state.pieces = Some(size),
            Fault::Garbage => state.put(b"this is no record\n"),
            Fault::Kill => {
                drop(state);
                for task in self.alive() {
                    self.kill(&task, None);
                }
            }
            Fault::Shutdown => {
                drop(state);
                self.shutdown();
            }
        }
    }

    /// Brings the agent back after [`Fault::Down`]; it recovers for a while.
    pub fn come_back(&self) {
        let mut state = self.shared.lock();
        state.core.recovering = true;
        state.recovered_at = Some(Instant::now() + self.options.recovering);
        drop(state);
        self.shared.up.send_replace(true);
    }

    /// The executor's container is gone.
    pub fn executor_gone(&self) {
        self.shared.lock().core.executor_gone();
        self.shared.changed.notify_all();
    }

    /// All updates that the framework saw, in order; each uuid once.
    pub fn updates(&self) -> Vec<TaskStatus> {
        self.shared.lock().core.seen().to_vec()
    }

    /// The ids of tasks that are not over.
    pub fn alive(&self) -> Vec<String> {
        let mut last: BTreeMap<String, TaskState> = BTreeMap::new();
        for status in self.updates() {
            last.insert(status.task_id.value.clone(), status.state());
        }
        let alive = last.into_iter().filter(|(_, state)| !is_terminal(*state));
        alive.map(|(id, _)| id).collect()
    }

    /// How often the executor has subscribed.
    pub fn subscriptions(&self) -> u32 {
        self.shared.lock().subscriptions
    }

    /// True while the executor's stream is open.
    pub fn has_stream(&self) -> bool {
        let state = self.shared.lock();
        state
            .stream
            .as_ref()
            .is_some_and(|stream| !stream.send.is_closed())
    }

    /// Waits until `holds` is true of the updates; false if it is not within `patience`.
    pub fn wait(&self, patience: Duration, holds: impl Fn(&[TaskStatus]) -> bool) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.shared.lock();
        loop {
            if holds(state.core.seen()) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the fake agent's thread panicked");
        }
    }
}

async fn run(
    shared: Arc<Shared>,
    first: std::net::TcpListener,
    socket: Option<PathBuf>,
    stopped: mpsc::UnboundedReceiver<Infallible>,
) -> io::Result<()> {
    let up = shared.up.subscribe();
    accept_while_up(first, socket, up, stopped, |stream| {
        let served = tokio::spawn(server::serve(stream, Arc::clone(&shared)));
        let mut state = shared.lock();
        state
            .connections
            .retain(|connection| !connection.is_finished());
        state.connections.push(served.abort_handle());
    })
    .await
}
