//! The scheduler's loop: all events go to the core one after the other. Its decisions go to the
//! journal, and when they are durable, to the master and to the clients that asked.
//!
//! It decides nothing, and it never waits for the disk: what must not leave before its facts are
//! durable is queued.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    os::unix::net::UnixStream,
    time::Duration,
};

use bytes::Bytes;
use signal_hook::consts::{SIGINT, SIGTERM};
use thiserror::Error;
use tokio::{
    io::AsyncReadExt,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use super::{
    core::{Answer, Decision, Event, Key, Kind, Refusal, Request, SchedulerCore},
    journal::{FactJournal, FactJournalError, Written},
    master_link::{LinkEvent, Outgoing},
    metrics::Metrics,
    translate::{Incoming, Translator},
    watchers::Watchers,
};
use crate::{
    mesos::protocol::messages::TaskState,
    protocols::dewar::scheduler::Status,
    sys::clock::{self, Moment},
};

/// The longest sleep when nothing is due.
const LONG: Duration = Duration::from_secs(86_400);

/// How often watchers get a sign of life.
const BEAT: Duration = Duration::from_secs(15);

/// Why a scheduler ended without being asked to.
#[derive(Debug, Error)]
pub enum SchedulerError {
    /// The journal cannot be used.
    #[error(transparent)]
    Unusable(#[from] FactJournalError),
    /// The journal cannot be written any more.
    #[error("the journal cannot be written: {0}")]
    Journal(String),
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What could not be done.
        what: String,
        /// Why it could not be done.
        source: io::Error,
    },
    /// The master refuses the framework.
    #[error("the master refuses us: {0}")]
    Refused(String),
}

/// Runs when what it answers is durable.
type Later = Box<dyn FnOnce() + Send>;
/// Looks at the core now; the closure that it returns answers later.
pub(super) type Look = Box<dyn FnOnce(&SchedulerCore, &Metrics) -> Later + Send>;

/// What the API asks of the loop.
pub(super) enum Ask {
    Look(Look),
    Request(Request, oneshot::Sender<Result<Answer, Refusal>>),
    /// Lines of a job's brief view, from now on.
    Watch(
        String,
        oneshot::Sender<Result<mpsc::Receiver<Bytes>, Refusal>>,
    ),
}

/// A decision that waits for the journal.
struct Waiting {
    ticket: u64,
    calls: Vec<Outgoing>,
    later: Option<Later>,
}

pub(super) struct EventLoop {
    core: SchedulerCore,
    translator: Translator,
    journal: FactJournal,
    metrics: Metrics,
    clock: Clock,
    /// The number of the stream that the scheduler is subscribed on.
    stream: u64,
    calls: mpsc::UnboundedSender<Outgoing>,
    durable: u64,
    waiting: VecDeque<Waiting>,
    watchers: Watchers,
    /// Jobs whose watchers are to get a new line.
    changed: BTreeSet<Key>,
}

/// Milliseconds since 1970 at the start, counted on by a clock that is never set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    wall_minus_boot_us: u64,
}

impl Clock {
    pub fn start() -> Clock {
        let now = clock::now();
        Clock {
            wall_minus_boot_us: now.wall_us.saturating_sub(now.boot_us),
        }
    }

    pub fn moment(self) -> Moment {
        let now = clock::now();
        // Whole milliseconds: what is decided and what is replayed agree on them.
        let wall_ms = (self.wall_minus_boot_us + now.boot_us) / 1000;
        Moment {
            boot_us: now.boot_us,
            wall_us: wall_ms * 1000,
        }
    }
}

/// All sources of events.
pub(super) struct Sources {
    pub link: mpsc::UnboundedReceiver<LinkEvent>,
    pub written: mpsc::UnboundedReceiver<Written>,
    pub asks: mpsc::UnboundedReceiver<Ask>,
}

impl EventLoop {
    pub fn new(
        core: SchedulerCore,
        translator: Translator,
        journal: FactJournal,
        clock: Clock,
        calls: mpsc::UnboundedSender<Outgoing>,
    ) -> EventLoop {
        EventLoop {
            core,
            translator,
            journal,
            metrics: Metrics::new(),
            clock,
            stream: 0,
            calls,
            durable: 0,
            waiting: VecDeque::new(),
            watchers: Watchers::default(),
            changed: BTreeSet::new(),
        }
    }

    /// Runs until a signal asks it to stop.
    ///
    /// # Errors
    /// If the journal cannot be written, or the master refuses the framework.
    pub async fn run(mut self, mut from: Sources) -> Result<(), SchedulerError> {
        let mut stop = Stop::watch()?;
        let mut beat = Instant::now() + BEAT;
        loop {
            let now = self.clock.moment().wall_us / 1000;
            let due = self.core.next_due().map_or(LONG, |at| {
                Duration::from_millis(at.saturating_sub(now)).min(LONG)
            });
            tokio::select! {
                Some(written) = from.written.recv() => self.on_written(written)?,
                Some(event) = from.link.recv() => self.on_link_event(event)?,
                Some(ask) = from.asks.recv() => self.on_ask(ask),
                () = sleep(due) => self.handle(Event::Tick),
                () = sleep_until(beat), if !self.watchers.is_empty() => {
                    self.watchers.beat(&self.core);
                    beat = Instant::now() + BEAT;
                }
                stopped = stop.asked() => return stopped,
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.clock.moment();
        let decision = self.core.handle(event, now.wall_us / 1000);
        self.carry_out(decision, now, None);
    }

    fn carry_out(&mut self, decision: Decision, now: Moment, later: Option<Later>) {
        self.metrics.decided(&decision);
        log(&decision);
        let stream = self.stream;
        let calls = decision.calls.into_iter();
        let calls = calls
            .map(|call| (stream, self.translator.call(call, &self.core)))
            .collect();
        let ticket = self.journal.push(decision.facts, now);
        if self.journal.wants_snapshot() {
            self.journal.compact(self.core.state(), now);
        }
        self.changed.extend(self.core.take_changed());
        self.waiting.push_back(Waiting {
            ticket,
            calls,
            later,
        });
        self.flush();
    }

    /// Sends what is durable.
    fn flush(&mut self) {
        while let Some(first) = self.waiting.front()
            && first.ticket <= self.durable
            && let Some(first) = self.waiting.pop_front()
        {
            for call in first.calls {
                // Without a link there is no stream that the call could belong to.
                let _ = self.calls.send(call);
            }
            if let Some(later) = first.later {
                later();
            }
        }
        if self.waiting.is_empty() && !self.changed.is_empty() {
            let changed = std::mem::take(&mut self.changed);
            self.watchers.tell(&self.core, &changed);
        }
    }

    fn on_written(&mut self, written: Written) -> Result<(), SchedulerError> {
        match written {
            Written::Durable(count) => self.durable = count,
            Written::Failed(why) => return Err(SchedulerError::Journal(why)),
        }
        self.flush();
        Ok(())
    }

    fn on_link_event(&mut self, event: LinkEvent) -> Result<(), SchedulerError> {
        match event {
            LinkEvent::Event(number, event) => match self.translator.event(*event) {
                Incoming::Subscribed(event) => {
                    self.stream = number;
                    self.handle(event);
                    let id = self.core.state().framework.as_deref().unwrap_or_default();
                    tracing::info!("subscribed as framework {id}");
                }
                // Events of an earlier stream are void.
                Incoming::Event(event) if number == self.stream => {
                    if let Event::AgentLost(id) = &event {
                        tracing::warn!("the master has given up agent {id}");
                    }
                    self.handle(event);
                }
                Incoming::Event(_) | Incoming::Nothing => {}
                Incoming::Error(why) => return Err(SchedulerError::Refused(why)),
            },
            LinkEvent::Lost(why) => {
                tracing::warn!("no master: {why}");
                self.metrics.lost();
                self.handle(Event::Disconnected);
            }
            LinkEvent::Refused(why) => return Err(SchedulerError::Refused(why)),
        }
        Ok(())
    }

    fn on_ask(&mut self, ask: Ask) {
        let now = self.clock.moment();
        match ask {
            Ask::Look(look) => {
                let later = look(&self.core, &self.metrics);
                self.carry_out(Decision::default(), now, Some(later));
            }
            Ask::Request(request, reply) => {
                let asked = request.to_string();
                let (answer, decision) = self.core.request(request, now.wall_us / 1000);
                match &answer {
                    Ok(Answer::Begun(_, what) | Answer::Done(what)) => {
                        tracing::info!("asked to {asked}: {what}");
                    }
                    Err(refusal) => {
                        tracing::info!("asked to {asked}, refused: {}", refusal.message);
                    }
                }
                // The client may have left.
                let later = move || drop(reply.send(answer));
                self.carry_out(decision, now, Some(Box::new(later)));
            }
            Ask::Watch(key, reply) => {
                let watched = self.core.known(&key);
                let watched = watched.map(|key| self.watchers.add(key, &self.core));
                let later = move || drop(reply.send(watched));
                self.carry_out(Decision::default(), now, Some(Box::new(later)));
            }
        }
    }
}

/// Logs what an operator looks for later: tasks that ended badly, tasks that were given up,
/// updates.
fn log(decision: &Decision) {
    for fact in &decision.facts {
        match &fact.kind {
            Some(Kind::Status(status))
                if !status.reason.is_empty() || !status.message.is_empty() =>
            {
                let state = TaskState::try_from(status.state);
                let state = state.map_or("?", |state| state.as_str_name());
                if state != "TASK_FINISHED" && state != "TASK_KILLED" {
                    let Status {
                        serial, message, ..
                    } = status;
                    tracing::info!("task number {serial}: {state} {}: {message}", status.reason);
                }
            }
            Some(Kind::Superseded(one)) => {
                tracing::info!("task number {} is given up: it is unreachable", one.serial);
            }
            Some(Kind::UpdateState(update)) => {
                let stage = update.stage().as_str_name();
                tracing::info!("update of {}: {stage} {}", update.job, update.reason);
            }
            _ => {}
        }
    }
}

/// SIGTERM and SIGINT, as a future.
struct Stop(tokio::net::UnixStream);

impl Stop {
    fn watch() -> Result<Stop, SchedulerError> {
        let watch = || {
            let (read, write) = UnixStream::pair()?;
            signal_hook::low_level::pipe::register(SIGINT, write.try_clone()?)?;
            signal_hook::low_level::pipe::register(SIGTERM, write)?;
            read.set_nonblocking(true)?;
            tokio::net::UnixStream::from_std(read)
        };
        watch().map(Stop).map_err(|source| SchedulerError::Io {
            what: "watch for signals".to_owned(),
            source,
        })
    }

    async fn asked(&mut self) -> Result<(), SchedulerError> {
        let read = self.0.read_u8().await;
        read.map(drop).map_err(|source| SchedulerError::Io {
            what: "read signals".to_owned(),
            source,
        })
    }
}
