//! Drives the executor within its runner: carries the core's actions to the runner and the agent,
//! and their answers back.
//!
//! It decides nothing; that is the core's (`core`, `decide`).

use std::{
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    bounds::Bounds,
    core::ExecutorCore,
    interface::{Action, AgentEvent, Setting, TaskProgress, TaskView, UpdateText},
    needed_records::needed,
    prepare::{ExecutorContext, prepare},
    terminal_update,
};
use crate::{
    engine::{
        runner::{Members, Steering, Want},
        store::Store,
    },
    journal::{Kind, Record},
    mesos::protocol::{
        AgentEnvironment, Client, EnvironmentError, Wire,
        messages::{
            TaskState,
            executor::{Call, Event},
        },
    },
    sys::clock::{Moment, now},
};

pub(super) struct ExecutorDriver {
    core: ExecutorCore,
    client: Arc<Client>,
    sandbox: PathBuf,
    bounds: Bounds,
    /// The list of this machine's tasks, in which the executor's tasks are shown.
    store: Option<Store>,
    send: mpsc::UnboundedSender<(u64, AgentEvent)>,
    receive: mpsc::UnboundedReceiver<(u64, AgentEvent)>,
    stream: Option<JoinHandle<()>>,
    /// Counts subscriptions, so that events of an earlier stream are dropped.
    subscription: u64,
}

impl ExecutorDriver {
    /// Makes a driver from the agent's environment, without a journal yet.
    ///
    /// # Errors
    /// Every variable that is missing or wrong.
    pub fn from_environment() -> Result<ExecutorDriver, EnvironmentError> {
        let environment = AgentEnvironment::read(|name| std::env::var(name).ok())?;
        let micros = |duration: Duration| duration.as_micros() as u64;
        let setting = Setting {
            framework_id: environment.framework_id,
            executor_id: environment.executor_id,
            recovery_us: environment.recovery_timeout.map(micros),
            backoff_max_us: micros(environment.backoff_max),
            grace_us: micros(environment.grace_period),
        };
        let (send, receive) = mpsc::unbounded_channel();
        let sandbox = environment.sandbox;
        Ok(ExecutorDriver {
            core: ExecutorCore::new(setting, now().boot_us),
            client: Arc::new(Client {
                address: environment.address,
                path: environment.path,
                authorization: environment.token.map(|token| format!("Bearer {token}")),
                wire: Wire::default(),
            }),
            sandbox: std::fs::canonicalize(&sandbox).unwrap_or(sandbox),
            bounds: Bounds::default(),
            store: None,
            send,
            receive,
            stream: None,
            subscription: 0,
        })
    }

    fn subscribe(&mut self, call: &Call) {
        if let Some(stream) = self.stream.take() {
            stream.abort();
        }
        self.subscription += 1;
        let sender = EventSender {
            subscription: self.subscription,
            send: self.send.clone(),
        };
        let client = Arc::clone(&self.client);
        let body = client.wire.encode(call);
        self.stream = Some(tokio::spawn(async move {
            let why = match body {
                Ok(body) => listen(&client, body, &sender).await,
                Err(error) => error.to_string(),
            };
            sender.send(AgentEvent::Disconnected(why));
        }));
    }

    fn post(&self, uuid: Vec<u8>, call: &Call) {
        let sender = EventSender {
            subscription: self.subscription,
            send: self.send.clone(),
        };
        let client = Arc::clone(&self.client);
        let body = client.wire.encode(call);
        tokio::spawn(async move {
            let refused = match body {
                Ok(body) => client.call(body).await.err().map(|error| error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            sender.send(AgentEvent::Posted { uuid, refused });
        });
    }

    fn open(&mut self, task: u32, members: &Members) -> Option<Want> {
        let info = self.core.info(task)?;
        let context = ExecutorContext {
            directory: self.sandbox.join(super::bounds::DIRECTORY),
            sandbox: self.sandbox.clone(),
            hostname: self.core.hostname().unwrap_or_default().to_owned(),
            bounds: self.bounds,
        };
        match prepare(info, &context) {
            Ok(prepared) => {
                if let Some(store) = &self.store
                    && let Err(error) =
                        store.point(&info.task_id.value, prepared.directory.as_ref())
                {
                    // The list may not be writable; the task runs without being shown.
                    tracing::info!("the task is not shown: {error}");
                }
                Some(Want::Open {
                    task,
                    directory: prepared.directory,
                    header: Box::new(prepared.header),
                })
            }
            Err(text) => {
                let mut view = MembersView(members);
                self.core.open_failed(task, text, now(), &mut view);
                None
            }
        }
    }
}

/// Sends the events of one subscription to the driver.
struct EventSender {
    subscription: u64,
    send: mpsc::UnboundedSender<(u64, AgentEvent)>,
}

impl EventSender {
    fn send(&self, event: AgentEvent) {
        // An executor that ends receives no more events.
        let _ = self.send.send((self.subscription, event));
    }
}

/// Subscribes and sends every event of the stream; returns why the stream ended.
async fn listen(client: &Client, body: Vec<u8>, sender: &EventSender) -> String {
    let mut stream = match client.subscribe(body).await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    sender.send(AgentEvent::Connected);
    loop {
        match stream.next().await {
            Ok(Some(record)) => match client.wire.decode::<Event>(&record) {
                Ok(event) => sender.send(AgentEvent::Event(Box::new(event))),
                Err(error) => return format!("an event that is none: {error}"),
            },
            Ok(None) => return "the agent ended the stream".to_owned(),
            Err(error) => return error.to_string(),
        }
    }
}

/// The runner's tasks, as the core sees them.
struct MembersView<'a>(&'a Members);

impl TaskView for MembersView<'_> {
    fn progress(&self, task: u32) -> Option<TaskProgress> {
        let running = self.0.get(&task)?;
        let model = running.model();
        let history = &model.history;
        let works = model.task.health.is_none() || history.healthy() == Some(true);
        let end = history.state().and_then(terminal_update::end_of);
        Some(TaskProgress {
            has_started: history.has_started() && works,
            checked: history.checked(),
            end: end.filter(|_| running.is_over()),
        })
    }

    fn update_text(&self, task: u32, state: TaskState) -> UpdateText {
        match self.0.get(&task) {
            Some(running) => {
                let healthy = running.model().history.healthy();
                terminal_update::update_text(&running.status([None; 3]), healthy, state)
            }
            None => UpdateText::default(),
        }
    }

    fn uuid(&mut self) -> [u8; 16] {
        *uuid::Uuid::new_v4().as_bytes()
    }
}

impl Steering for ExecutorDriver {
    fn recorded(&mut self, record: &Record) {
        if let Some(Kind::Header(header)) = &record.kind
            && let Some(executor) = &header.executor
        {
            self.bounds = Bounds::of(executor);
            if executor.json {
                Arc::make_mut(&mut self.client).wire = Wire::Json;
            }
            let root = executor.root.as_str();
            self.store = (!root.is_empty()).then(|| Store::new(PathBuf::from(root)));
        }
        self.core.recorded(record);
    }

    fn needed(&self, records: &[Record]) -> Vec<Record> {
        needed(records)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.receive.poll_recv(context) {
                Poll::Ready(Some((subscription, event))) => {
                    let is_late = subscription != self.subscription;
                    if is_late && !matches!(event, AgentEvent::Posted { .. }) {
                        continue;
                    }
                    self.core.on_agent_event(event, now().boot_us);
                    return Poll::Ready(());
                }
                // The driver holds a sender, so the channel never ends.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn decide(&mut self, moment: Moment, members: &Members) -> (Vec<Want>, Option<u64>) {
        let mut wants = Vec::new();
        loop {
            let (actions, wake_at) = self.core.decide(moment, &mut MembersView(members));
            if actions.is_empty() {
                return (wants, wake_at);
            }
            let mut changed = false;
            for action in actions {
                match action {
                    Action::Note(kind) => wants.push(Want::Note(kind)),
                    Action::Open(task) => {
                        let want = self.open(task, members);
                        changed |= want.is_some();
                        wants.extend(want);
                    }
                    Action::Kill { task, budget_us } => wants.push(Want::Kill {
                        task,
                        now: false,
                        budget_us,
                    }),
                    Action::Forget(task) => wants.push(Want::Forget(task)),
                    Action::Subscribe(call) => self.subscribe(&call),
                    Action::Post { uuid, call } => self.post(uuid, &call),
                    Action::Leave => wants.push(Want::Leave),
                }
            }
            if changed {
                // Decided again when the runner has opened the task.
                return (wants, wake_at);
            }
        }
    }
}
