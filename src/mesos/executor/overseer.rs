//! The executor within its runner: carries the core's actions to the agent and to the tasks, and
//! brings back what they say.

use std::{
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    bounds::Bounds,
    compaction::needed,
    core::Core,
    interface::{Action, News, Setting, Standing, Words, World},
    prepare::{Place, prepare},
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

pub(super) struct MesosOverseer {
    core: Core,
    client: Arc<Client>,
    sandbox: PathBuf,
    bounds: Bounds,
    /// Where the tasks are shown.
    store: Option<Store>,
    send: mpsc::UnboundedSender<(u64, News)>,
    receive: mpsc::UnboundedReceiver<(u64, News)>,
    stream: Option<JoinHandle<()>>,
    /// Counts subscriptions: what an earlier stream still says does not matter.
    subscription: u64,
}

impl MesosOverseer {
    /// As the agent's environment says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_environment() -> Result<MesosOverseer, EnvironmentError> {
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
        Ok(MesosOverseer {
            core: Core::new(setting, now().boot_us),
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
        let teller = Teller {
            subscription: self.subscription,
            send: self.send.clone(),
        };
        let client = Arc::clone(&self.client);
        let body = client.wire.encode(call);
        self.stream = Some(tokio::spawn(async move {
            let why = match body {
                Ok(body) => listen(&client, body, &teller).await,
                Err(error) => error.to_string(),
            };
            teller.tell(News::Disconnected(why));
        }));
    }

    fn post(&self, uuid: Vec<u8>, call: &Call) {
        let teller = Teller {
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
            teller.tell(News::Posted { uuid, refused });
        });
    }

    fn begin(&mut self, task: u32, members: &Members) -> Option<Want> {
        let info = self.core.info(task)?;
        let place = Place {
            directory: self.sandbox.join(super::bounds::DIRECTORY),
            sandbox: self.sandbox.clone(),
            hostname: self.core.hostname().unwrap_or_default().to_owned(),
            bounds: self.bounds,
        };
        match prepare(info, &place) {
            Ok(prepared) => {
                if let Some(store) = &self.store
                    && let Err(error) =
                        store.point(&info.task_id.value, prepared.directory.as_ref())
                {
                    // Nobody promised that it can be written.
                    tracing::info!("the task is not shown: {error}");
                }
                Some(Want::Open {
                    task,
                    directory: prepared.directory,
                    header: Box::new(prepared.header),
                })
            }
            Err(words) => {
                let mut world = Seen(members);
                self.core.unfit(task, words, now(), &mut world);
                None
            }
        }
    }
}

/// Sends news of one subscription.
struct Teller {
    subscription: u64,
    send: mpsc::UnboundedSender<(u64, News)>,
}

impl Teller {
    fn tell(&self, news: News) {
        // Nobody hears it when the executor is leaving.
        let _ = self.send.send((self.subscription, news));
    }
}

/// Subscribes and tells every event; returns why there are no more.
async fn listen(client: &Client, body: Vec<u8>, teller: &Teller) -> String {
    let mut stream = match client.subscribe(body).await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    teller.tell(News::Connected);
    loop {
        match stream.next().await {
            Ok(Some(record)) => match client.wire.decode::<Event>(&record) {
                Ok(event) => teller.tell(News::Event(Box::new(event))),
                Err(error) => return format!("an event that is none: {error}"),
            },
            Ok(None) => return "the agent ended the stream".to_owned(),
            Err(error) => return error.to_string(),
        }
    }
}

/// The tasks, as the core sees them.
struct Seen<'a>(&'a Members);

impl World for Seen<'_> {
    fn standing(&self, task: u32) -> Option<Standing> {
        let running = self.0.get(&task)?;
        let model = running.model();
        let history = &model.history;
        let works = model.task.health.is_none() || history.healthy() == Some(true);
        let end = history.state().and_then(terminal_update::end_of);
        Some(Standing {
            has_started: history.has_started() && works,
            checked: history.checked(),
            end: end.filter(|_| running.is_over()),
        })
    }

    fn words(&self, task: u32, state: TaskState) -> Words {
        match self.0.get(&task) {
            Some(running) => {
                let healthy = running.model().history.healthy();
                terminal_update::words(&running.status([None; 3]), healthy, state)
            }
            None => Words::default(),
        }
    }

    fn uuid(&mut self) -> [u8; 16] {
        *uuid::Uuid::new_v4().as_bytes()
    }
}

impl Steering for MesosOverseer {
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
                Poll::Ready(Some((subscription, news))) => {
                    let is_late = subscription != self.subscription;
                    if is_late && !matches!(news, News::Posted { .. }) {
                        continue;
                    }
                    self.core.hear(news, now().boot_us);
                    return Poll::Ready(());
                }
                // We hold a sender, so it never ends.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn decide(&mut self, moment: Moment, members: &Members) -> (Vec<Want>, Option<u64>) {
        let mut wants = Vec::new();
        loop {
            let (actions, wake_at) = self.core.decide(moment, &mut Seen(members));
            if actions.is_empty() {
                return (wants, wake_at);
            }
            let mut changed = false;
            for action in actions {
                match action {
                    Action::Note(kind) => wants.push(Want::Note(kind)),
                    Action::Begin(task) => {
                        let want = self.begin(task, members);
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
                // The next look is at the task that has begun.
                return (wants, wake_at);
            }
        }
    }
}
