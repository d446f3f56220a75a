//! What the runner does with what it hears: reports in, decisions out, clients told.
//!
//! A task's plan learns at once; its history, and through it clients and the overseer, only what is
//! on disk.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use tokio::sync::mpsc;

use super::{
    clients::{ClientId, Clients, Heard},
    failure::RunnerError,
    health_check::Outcome,
    overseer::{Members, Overseer, Want},
    probe,
    running_task::{Attempt, Post, Running, Subject, note, order, order_of},
};
use crate::{
    engine::{
        history::{Event, Growth},
        ipc::{Holder, HoldersView, JOURNAL, LIVE, LinkError, Request, frame_message},
        plan,
    },
    journal::{self, Kind, Record, Snapshot},
    protocols::dewar::{link as wire, link::command::Kind as Order},
    resources::{DiskUsage, disk_usage},
    sys::clock::now,
    task::Probe,
};

/// What was tried outside and has ended, of which task.
pub(super) enum Ended {
    /// An attempt of a health check.
    Attempt(u32, Subject, Outcome),
    /// A walk through the sandbox.
    Walk(u32, DiskUsage),
    /// A request to end that nobody took; true: the second one.
    Unanswered(u32, bool),
}

async fn attempt_at(number: u32, attempt: Attempt, tell: mpsc::UnboundedSender<Ended>) {
    let outcome = match &attempt.probe {
        _ if attempt.is_snoozed => Outcome::good(),
        Probe::Http(http) => probe::http(http, attempt.timeout).await,
        Probe::Tcp(tcp) => probe::tcp(tcp.port, attempt.timeout).await,
        // The keeper's, unless it snoozes.
        Probe::Shell(_) => Outcome::good(),
    };
    // Nobody hears it when the runner is leaving.
    let _ = tell.send(Ended::Attempt(number, attempt.subject, outcome));
}

/// Walks on a thread of its own: a slow disk delays nobody. False when there is none.
fn walk(number: u32, sandbox: PathBuf, tell: mpsc::UnboundedSender<Ended>) -> bool {
    let walk = move || {
        // Nobody hears it when the runner is leaving.
        let _ = tell.send(Ended::Walk(number, disk_usage(&sandbox)));
    };
    let spawned = std::thread::Builder::new()
        .name("disk".to_owned())
        .spawn(walk);
    if let Err(error) = &spawned {
        tracing::error!("cannot look at the sandbox's size: {error}");
    }
    spawned.is_ok()
}

async fn post_to(number: u32, post: Post, tell: mpsc::UnboundedSender<Ended>) {
    if let Err(error) = probe::post(post.port, &post.path, post.patience).await {
        tracing::info!("asking the task to end: {error}");
        // Nobody hears it when the runner is leaving.
        let _ = tell.send(Ended::Unanswered(number, post.abort));
    }
}

pub(super) struct Engine {
    /// By number; locally there is one, and it is 0.
    pub tasks: Members,
    pub overseer: Option<Box<dyn Overseer>>,
    live: File,
    /// Of the group's own journal, where an overseer has one: its file, and how it grows.
    own: Option<(String, Growth)>,
    /// Known, but not yet on disk: number, task, record.
    pub unsaid: VecDeque<(u64, u32, Record)>,
    /// The overseer is heard when the records up to this one are on disk: what an earlier runner
    /// wanted comes first.
    heard_from: u64,
    durable: u64,
    pub clients: Clients,
    /// Where what is tried outside tells how it ended.
    ended: mpsc::UnboundedSender<Ended>,
    /// Notes and orders for the next batch.
    batch: wire::Batch,
    answer: bool,
    /// The journal cannot be written.
    failed: bool,
    leaving: bool,
}

impl Engine {
    /// Replays the journals that the keeper's first report names.
    pub fn new(
        directory: &OwnedFd,
        clients: Clients,
        ended: mpsc::UnboundedSender<Ended>,
        mut overseer: Option<Box<dyn Overseer>>,
        mut welcome: wire::Report,
    ) -> Result<Engine, RunnerError> {
        let mut tasks = Members::new();
        let mut own = None;
        let mut known: HashMap<u32, u64> = HashMap::new();
        for open in &welcome.journals {
            let replay = replay(open, &welcome)?;
            let count = replay.numbering.index(open.replay_to);
            // A compaction since may stand for some of what is told.
            let ahead = replay.compacted_through().saturating_sub(open.replay_to);
            known.insert(open.task, ahead);
            match &mut overseer {
                Some(overseer) if open.task == 0 => {
                    let past = replay.records.iter().take(count);
                    past.for_each(|record| overseer.recorded(record));
                    own = Some((format!("{}/{JOURNAL}", open.directory), Growth::of(count)));
                }
                _ => {
                    let task = Running::new(open.task, &open.directory, replay, count);
                    tasks.insert(open.task, task.map_err(RunnerError::Header)?);
                }
            }
        }
        let heard_from = welcome.records.last().map_or(0, |last| last.seq);
        welcome
            .records
            .retain(|numbered| !is_known(&mut known, numbered.task));
        for numbered in &welcome.records {
            if let (Some(task), Some(record)) = (tasks.get_mut(&numbered.task), &numbered.record) {
                task.learn_all(record);
            }
        }
        let live = nix::fcntl::openat(
            directory.as_fd(),
            LIVE,
            nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        )
        .map_err(io::Error::from)?;
        let mut engine = Engine {
            tasks,
            overseer,
            live: live.into(),
            own,
            unsaid: VecDeque::new(),
            heard_from,
            durable: 0,
            clients,
            ended,
            batch: wire::Batch::default(),
            answer: false,
            failed: false,
            leaving: false,
        };
        for task in engine.tasks.values_mut() {
            task.resume(&welcome.unlaunched, &welcome.held, &mut engine.batch);
        }
        engine.hear_news(welcome);
        Ok(engine)
    }

    pub fn hear(&mut self, report: wire::Report) {
        for numbered in &report.records {
            if let (Some(task), Some(record)) =
                (self.tasks.get_mut(&numbered.task), &numbered.record)
            {
                task.learn(record);
            }
        }
        self.hear_news(report);
    }

    fn hear_news(&mut self, report: wire::Report) {
        let is_news = !report.records.is_empty()
            || !report.empty.is_empty()
            || !report.journals.is_empty()
            || !report.probed.is_empty();
        self.batch.answers = report.number;
        self.answer |= is_news;
        for numbered in report.records {
            if let Some(record) = numbered.record {
                self.unsaid.push_back((numbered.seq, numbered.task, record));
            }
        }
        if let Some(error) = report.journal_failed {
            tracing::error!("the journal cannot be written: {error}");
            self.failed = true;
        }
        for probed in report.probed {
            let subject = match probed.process {
                Some(process) => Subject::Run(process as usize, probed.run),
                None if probed.is_check => Subject::Report,
                None => Subject::Task,
            };
            let result = match probed.failure.is_empty() {
                true => Ok(()),
                false => Err(probed.failure),
            };
            let outcome = Outcome {
                result,
                value: probed.value,
            };
            self.ended(Ended::Attempt(probed.task, subject, outcome));
        }
        for number in report.empty {
            if let Some(task) = self.tasks.get_mut(&number) {
                task.is_empty();
                if self.failed {
                    task.lose(&mut self.batch);
                }
            }
        }
        self.durable = self.durable.max(report.durable);
        self.tell();
    }

    /// Tells followers what is on disk by now.
    fn tell(&mut self) {
        while let Some((seq, ..)) = self.unsaid.front() {
            // What cannot be made durable any more is still the best that anybody knows.
            if *seq > self.durable && !self.failed {
                break;
            }
            let Some((seq, number, record)) = self.unsaid.pop_front() else {
                break;
            };
            // An end that is not on disk is none: the task is LOST instead.
            if seq > self.durable && self.tasks.contains_key(&number) && is_good_end(&record) {
                continue;
            }
            match (&mut self.overseer, self.tasks.get_mut(&number)) {
                (_, Some(task)) => {
                    let event = task.tell(&record);
                    let is_over = task.is_over();
                    if let Some(event) = event
                        && self.clients.has_followers(number)
                    {
                        self.clients.broadcast(number, &line_of(&event));
                    }
                    if is_over {
                        self.clients.release(number);
                    }
                }
                (Some(overseer), None) if number == 0 => {
                    overseer.recorded(&record);
                    if let Some((_, growth)) = &mut self.own {
                        growth.add();
                    }
                }
                _ => {}
            }
        }
    }

    pub fn serve(&mut self, heard: Heard) {
        let (id, request) = match heard {
            Heard::Request(id, request) => (id, request),
            Heard::Nonsense(id, message) => return self.refuse(id, message),
            Heard::Gone(id) => return self.clients.remove(id),
        };
        let name = request.task();
        let Some(number) = self.find(name) else {
            let message = match name {
                Some(name) => format!("no task {name:?} runs here"),
                None => "several tasks run here: name one".to_owned(),
            };
            return self.refuse(id, message);
        };
        let pids = self.pids();
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        match request {
            Request::Follow { .. } => {
                let status = line_of(&Event::Status(Box::new(task.status(pids))));
                self.clients.tell(id, &status);
                self.clients.follow(id, number);
            }
            Request::Status { .. } => {
                let status = line_of(&Event::Status(Box::new(task.status(pids))));
                self.clients.tell(id, &status);
            }
            Request::Restart { process, .. } => {
                if let Err(message) = task.restart(&process, &mut self.batch) {
                    self.refuse(id, message);
                }
            }
            Request::Signal {
                process, signal, ..
            } => {
                if let Err(message) = task.signal(&process, signal, &mut self.batch) {
                    self.refuse(id, message);
                }
            }
            Request::Kill { now, budget_us, .. } => task.kill(now, budget_us, &mut self.batch),
        }
    }

    /// Takes in what was tried outside.
    pub fn ended(&mut self, ended: Ended) {
        let (Ended::Attempt(number, ..) | Ended::Walk(number, _) | Ended::Unanswered(number, _)) =
            ended;
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        match ended {
            Ended::Attempt(_, subject, outcome) => {
                task.attempted(subject, outcome, &mut self.batch);
            }
            Ended::Walk(_, found) => task.walked(found, &mut self.batch),
            Ended::Unanswered(_, abort) => task.post_failed(abort),
        }
    }

    fn refuse(&mut self, id: ClientId, message: String) {
        let refused = Event::Refused {
            busy: false,
            message,
        };
        self.clients.tell(id, &line_of(&refused));
    }

    /// The task that a client means; one that is over is not here any more.
    fn find(&self, name: Option<&str>) -> Option<u32> {
        let mut all = self.tasks.iter();
        match name {
            None => {
                let only = all.next().map(|(number, _)| *number);
                only.filter(|_| all.next().is_none())
            }
            Some(name) => all
                .find(|(_, task)| task.model().history.task_id() == name)
                .map(|(number, _)| *number),
        }
    }

    fn pids(&self) -> [Option<u32>; 3] {
        let view = HoldersView::read(&self.live).ok();
        let pid = |holder| view.as_ref().and_then(|view| view.pid(holder));
        [
            pid(Holder::Root),
            pid(Holder::Keeper),
            Some(std::process::id()),
        ]
    }

    /// Lets overseer and plans decide; returns when they want to be asked again.
    pub fn decide(&mut self) -> Result<Option<u64>, RunnerError> {
        let mut wake_at = self.oversee()?;
        for (number, task) in &mut self.tasks {
            if self.failed && !task.has_ended() {
                // The keeper kills everything by itself; there is nothing left to decide.
                continue;
            }
            wake_at = earlier(wake_at, task.decide(&mut self.batch));
            if let Some(post) = task.take_post() {
                tokio::spawn(post_to(*number, post, self.ended.clone()));
            }
            for attempt in task.attempts(&mut self.batch) {
                tokio::spawn(attempt_at(*number, attempt, self.ended.clone()));
            }
            wake_at = earlier(wake_at, task.next_attempt());
            if let Some(sandbox) = task.take_walk()
                && !walk(*number, sandbox, self.ended.clone())
            {
                // Another time.
                task.walked(DiskUsage::default(), &mut self.batch);
            }
            wake_at = earlier(wake_at, task.next_walk());
            if !self.failed {
                task.compact(&mut self.batch);
            }
        }
        self.compact_own();
        Ok(wake_at)
    }

    /// Orders a compaction of the group's own journal when it has grown enough.
    fn compact_own(&mut self) {
        let (Some(overseer), Some((path, growth))) = (&self.overseer, &mut self.own) else {
            return;
        };
        if !growth.is_due() || self.failed || self.leaving {
            return;
        }
        match journal::read(path.as_str().as_ref()) {
            Ok(Some(replay)) => {
                let snapshot = Snapshot {
                    dropped: Vec::new(),
                    kept: overseer.needed(replay.records.get(1..).unwrap_or_default()),
                    through: replay.total(),
                };
                growth.compacted(snapshot.kept.len() + 2);
                order(0, order_of(snapshot), &mut self.batch);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!("no compaction: {error}");
                growth.compacted(usize::MAX / 4);
            }
        }
    }

    fn oversee(&mut self) -> Result<Option<u64>, RunnerError> {
        let Some(mut overseer) = self.overseer.take() else {
            return Ok(None);
        };
        let mut wake_at = None;
        if self.durable >= self.heard_from || self.failed {
            loop {
                let (wants, next) = overseer.decide(now(), &self.tasks);
                wake_at = next;
                if wants.is_empty() {
                    break;
                }
                for want in wants {
                    self.carry_out(want)?;
                }
            }
        }
        self.overseer = Some(overseer);
        Ok(wake_at)
    }

    fn carry_out(&mut self, want: Want) -> Result<(), RunnerError> {
        match want {
            Want::Note(kind) => note(0, Record::new(now(), *kind), &mut self.batch),
            Want::Open {
                task,
                directory,
                header,
            } => {
                let replay = journal::Replay::of_header((*header).clone());
                let begun = Running::new(task, &directory, replay, 0);
                self.tasks
                    .insert(task, begun.map_err(RunnerError::NewTask)?);
                let open = wire::Open {
                    directory,
                    header: Some(*header),
                };
                order(task, Order::Open(open), &mut self.batch);
            }
            Want::Kill {
                task,
                now,
                budget_us,
            } => {
                if let Some(task) = self.tasks.get_mut(&task) {
                    task.kill(now, budget_us, &mut self.batch);
                }
            }
            Want::Forget(task) => {
                if self.tasks.remove(&task).is_some() {
                    order(task, Order::Close(wire::Close {}), &mut self.batch);
                }
            }
            Want::Leave => {
                self.leaving = true;
                order(0, Order::Close(wire::Close {}), &mut self.batch);
            }
        }
        Ok(())
    }

    pub fn is_over(&self) -> bool {
        let is_done = |task: &Running| task.is_over();
        self.leaving || (self.overseer.is_none() && self.tasks.values().all(is_done))
    }

    /// The bytes of the batch, if there is anything to say.
    pub fn take_batch(&mut self) -> Vec<u8> {
        let has_content = !self.batch.notes.is_empty() || !self.batch.commands.is_empty();
        if !has_content && !std::mem::take(&mut self.answer) {
            return Vec::new();
        }
        self.answer = false;
        let answers = self.batch.answers;
        let batch = std::mem::take(&mut self.batch);
        self.batch.answers = answers;
        frame_message(&batch)
    }
}

/// One more record of `task` is told; true when its replay had that already.
fn is_known(known: &mut HashMap<u32, u64>, task: u32) -> bool {
    let Some(left) = known.get_mut(&task).filter(|left| **left > 0) else {
        return false;
    };
    *left -= 1;
    true
}

/// The end of a task that is not LOST.
fn is_good_end(record: &Record) -> bool {
    let Some(Kind::Stage(stage)) = &record.kind else {
        return false;
    };
    let state = stage.state().known();
    state.is_some_and(|state| state.is_terminal() && state != plan::TaskState::Lost)
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

fn line_of(event: &Event) -> Arc<str> {
    match serde_json::to_string(event) {
        Ok(line) => (line + "\n").into(),
        Err(error) => {
            tracing::error!("an event that is no JSON: {error}");
            "{}\n".into()
        }
    }
}

/// A journal; of a task that is just beginning, what the keeper is about to write there.
fn replay(
    open: &wire::OpenJournal,
    welcome: &wire::Report,
) -> Result<journal::Replay, RunnerError> {
    if open.replay_to > 0 {
        let path = format!("{}/{JOURNAL}", open.directory);
        return journal::read(path.as_ref())?.ok_or(RunnerError::EmptyJournal);
    }
    let mut told = welcome.records.iter();
    let first = told.find(|numbered| numbered.task == open.task);
    match first.and_then(|numbered| numbered.record.as_ref()?.kind.as_ref()) {
        Some(Kind::Header(header)) => Ok(journal::Replay::of_header(header.clone())),
        _ => Err(LinkError::Contradiction("a new journal is told of without its header").into()),
    }
}
