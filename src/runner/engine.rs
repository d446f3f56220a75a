//! The runner's loop: reports in, decisions out, clients told.
//!
//! The plan learns at once; the history, and through it clients, only what is on disk.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

use super::{
    clients::{Clients, Heard, Request, may_speak},
    launches::Launches,
    replay::Model,
    status::Event,
    timer::BootTimer,
};
use crate::{
    clock::now,
    config::LogMode,
    journal::{self, KillRequest, Kind, Record, Stage, TaskState},
    keeper::{
        DISTRUST, Holder, JOURNAL, LIVE, LinkBuffer, LiveView, RunnerSetup, frame_message,
        messages, trim_code,
    },
    plan::{Command, Decision, Fact, Note},
    protocols::dewar::link::{self as wire, command::Kind as Order},
};

/// A pause of this length means that we mostly wait again, microseconds.
const SETTLE_US: u64 = 100_000;

/// The life of a runner. Returns its exit code.
pub fn runner_main(setup: RunnerSetup) -> u8 {
    match live(setup) {
        Ok(()) => 0,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::error!("the journal cannot be trusted: {error}");
            DISTRUST
        }
        Err(error) => {
            tracing::error!("the runner cannot go on: {error}");
            70
        }
    }
}

fn live(setup: RunnerSetup) -> io::Result<()> {
    // We die with our keeper, even when we are stopped: the next one has its own runner.
    let keeper = nix::unistd::getppid();
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid() != keeper {
        return Ok(());
    }
    nix::sys::prctl::set_name(c"dewar-runner")?;
    // Clients take descriptors; nothing is ever started from here that could inherit the limit.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(run(setup))
}

struct Engine {
    model: Model,
    launches: Launches,
    path: String,
    live: File,
    /// Known, but not yet on disk.
    unsaid: VecDeque<(u64, Record)>,
    clients: Clients,
    /// Notes and orders for the next batch.
    batch: wire::Batch,
    answer: bool,
    /// The journal cannot be written.
    failed: bool,
    over: bool,
}

async fn run(setup: RunnerSetup) -> io::Result<()> {
    let stream = std::os::unix::net::UnixStream::from(setup.link);
    let link = UnixStream::from_std(stream)?;
    let listener = std::os::unix::net::UnixListener::from(setup.listener);
    let listener = UnixListener::from_std(listener)?;
    let mut inbox = LinkBuffer::default();
    let (heard, mut requests) = mpsc::channel(64);
    let clients = Clients::new(heard);
    let mut engine = Engine::welcome(&link, &mut inbox, &setup.directory, clients).await?;
    let timer = BootTimer::new()?;
    if let Some(client) = setup.client {
        let client = std::os::unix::net::UnixStream::from(client);
        client.set_nonblocking(true)?;
        engine.clients.add(UnixStream::from_std(client)?);
    }
    // After an error (no descriptors left, mostly) nobody is accepted until something happens.
    let mut accepts = true;
    let mut outbox: Vec<u8> = Vec::new();
    let mut is_restless = true;
    loop {
        let wake_at = engine.decide();
        outbox.extend(engine.take_batch());
        send(&link, &mut outbox)?;
        if engine.over {
            break;
        }
        let rest_at = is_restless.then(|| now().boot_us + SETTLE_US);
        timer.set(wake_at.into_iter().chain(rest_at).min())?;
        let interest = match outbox.is_empty() {
            true => Interest::READABLE,
            false => Interest::READABLE | Interest::WRITABLE,
        };
        tokio::select! {
            ready = link.ready(interest) => {
                if ready?.is_readable() && !receive(&link, &mut inbox)? {
                    // The keeper is gone, and its successor has a runner of its own.
                    return Ok(());
                }
                for report in messages::<wire::Report>(&mut inbox)? {
                    engine.hear(report);
                }
            }
            fired = timer.fired() => {
                fired?;
                if rest_at.is_some_and(|at| at <= now().boot_us) {
                    engine.unsaid.shrink_to_fit();
                    outbox.shrink_to_fit();
                    inbox.shrink_to_fit();
                    trim_code();
                    is_restless = false;
                    continue;
                }
            }
            accepted = listener.accept(), if accepts && engine.clients.has_room() => {
                match accepted {
                    Ok((client, _)) if may_speak(&client) => engine.clients.add(client),
                    Ok(_) => tracing::warn!("a client of another user was turned away"),
                    Err(error) => {
                        tracing::warn!("cannot accept a client: {error}");
                        accepts = false;
                        continue;
                    }
                }
            },
            Some(heard) = requests.recv() => {
                engine.serve(heard);
                // A client that was let go gives its descriptor back before the next is accepted.
                tokio::task::yield_now().await;
            }
        }
        accepts = true;
        is_restless = true;
    }
    // Everything that was said must get out, but nobody who does not read is waited for: the
    // keeper ends us in time.
    drop(requests);
    engine.clients.finish().await;
    Ok(())
}

impl Engine {
    /// Hears the keeper's first report and replays the journal.
    async fn welcome(
        link: &UnixStream,
        inbox: &mut LinkBuffer,
        directory: &OwnedFd,
        clients: Clients,
    ) -> io::Result<Engine> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let mut reports = VecDeque::new();
        while reports.is_empty() {
            link.readable().await?;
            if !receive(link, inbox)? {
                return Err(gone());
            }
            reports.extend(messages::<wire::Report>(inbox)?);
        }
        let welcome: wire::Report = reports.pop_front().ok_or_else(gone)?;
        let path = std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
        let path = path.display().to_string();
        let file = path.clone() + "/" + JOURNAL;
        let count = welcome.replay_to.unwrap_or_default() as usize;
        let replay = replay(&file, count, &welcome)?;
        let mut model = Model::replay(&replay, count)?;
        for record in welcome.records.iter().filter_map(|one| one.record.as_ref()) {
            model.learn(record);
        }
        let live = nix::fcntl::openat(
            directory.as_fd(),
            LIVE,
            nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        )?;
        let mut engine = Engine {
            model,
            launches: Launches::new(replay.header),
            path: file,
            live: live.into(),
            unsaid: VecDeque::new(),
            clients,
            batch: wire::Batch::default(),
            answer: false,
            failed: false,
            over: false,
        };
        engine.resume(&welcome);
        engine.hear_news(welcome);
        reports.into_iter().for_each(|report| engine.hear(report));
        Ok(engine)
    }

    /// What an earlier runner or keeper left undone.
    fn resume(&mut self, welcome: &wire::Report) {
        for run in &welcome.unlaunched {
            let process = run.process as usize;
            let order = match self.model.plan.may_start(process) {
                true => Order::Launch(self.launches.of(&self.model.task, process, run.run)),
                false => Order::Abandon(wire::Abandon {
                    process: run.process,
                    run: run.run,
                }),
            };
            self.order(order);
        }
        for (process, run) in self.model.plan.live() {
            if self.model.task.processes[process].logger.mode == LogMode::Rotate {
                let launch = self.launches.of(&self.model.task, process, run);
                self.order(Order::ReadOutput(launch));
            }
        }
    }

    fn hear(&mut self, report: wire::Report) {
        for numbered in &report.records {
            let Some(record) = &numbered.record else {
                continue;
            };
            // Our own notes come back to us for the history; the plan knows them.
            if !matches!(record.kind, Some(Kind::Stage(_) | Kind::Kill(_))) {
                self.model.learn(record);
            }
        }
        self.hear_news(report);
    }

    fn hear_news(&mut self, report: wire::Report) {
        let is_news = !report.records.is_empty() || report.empty || report.replay_to.is_some();
        self.batch.answers = report.number;
        self.answer |= is_news;
        for numbered in report.records {
            if let Some(record) = numbered.record {
                self.unsaid.push_back((numbered.seq, record));
            }
        }
        if report.empty {
            self.model.plan.is_empty();
        }
        if let Some(error) = report.journal_failed {
            tracing::error!("the journal cannot be written: {error}");
            self.failed = true;
        }
        if self.failed && report.empty {
            self.lose();
        }
        self.tell(report.durable);
    }

    /// The record cannot be kept and everything has been killed: the task is LOST.
    fn lose(&mut self) {
        let lost = Fact::Entered {
            state: crate::plan::TaskState::Lost,
            outcome: crate::plan::TaskState::Lost,
            budget_us: 0,
        };
        self.model.plan.apply(&lost, now().boot_us);
        let reason = "the journal cannot be written".to_owned();
        self.note_stage(TaskState::Lost, TaskState::Lost, 0, reason);
    }

    /// Tells followers what is on disk by now.
    fn tell(&mut self, durable: u64) {
        while let Some((seq, _)) = self.unsaid.front() {
            // What cannot be made durable any more is still the best that anybody knows.
            if *seq > durable && !self.failed {
                break;
            }
            let Some((_, record)) = self.unsaid.pop_front() else {
                break;
            };
            let event = self.model.history.apply(&record);
            if let Some(event) = event {
                self.broadcast(&event);
            }
            if let Some(Kind::Stage(stage)) = &record.kind
                && stage
                    .state()
                    .known()
                    .is_some_and(|state| state.is_terminal())
            {
                self.over = true;
            }
        }
    }

    fn broadcast(&mut self, event: &Event) {
        if self.clients.has_followers() {
            self.clients.broadcast(&line_of(event));
        }
    }

    fn serve(&mut self, heard: Heard) {
        match heard {
            Heard::Request(id, Request::Follow) => {
                let status = line_of(&self.status());
                self.clients.tell(id, &status);
                self.clients.follow(id);
            }
            Heard::Request(id, Request::Status) => {
                let status = line_of(&self.status());
                self.clients.tell(id, &status);
            }
            Heard::Request(_, Request::Kill { now, budget_us }) => self.kill(now, budget_us),
            Heard::Nonsense(id, message) => {
                let refused = Event::Refused {
                    busy: false,
                    message,
                };
                self.clients.tell(id, &line_of(&refused));
            }
            Heard::Gone(id) => self.clients.remove(id),
        }
    }

    fn kill(&mut self, at_once: bool, budget_us: Option<u64>) {
        let at = now();
        let fact = Fact::KillRequested {
            now: at_once,
            budget_us,
        };
        self.model.plan.apply(&fact, at.boot_us);
        self.batch.notes.push(Record::new(
            at,
            Kind::Kill(KillRequest {
                now: at_once,
                budget_us,
                reason: String::new(),
            }),
        ));
    }

    fn status(&self) -> Event {
        let view = LiveView::read(&self.live).ok();
        let pid = |holder| view.as_ref().and_then(|view| view.pid(holder));
        let pids = [
            pid(Holder::Root),
            pid(Holder::Keeper),
            Some(std::process::id()),
        ];
        let model = &self.model;
        Event::Status(Box::new(model.history.status(
            &model.plan,
            &self.path,
            pids,
        )))
    }

    /// Lets the plan decide; returns when it wants to be asked again.
    fn decide(&mut self) -> Option<u64> {
        let is_over = self
            .model
            .plan
            .state()
            .is_some_and(|state| state.is_terminal());
        if self.failed && !is_over {
            // The keeper kills everything by itself; there is nothing left to decide.
            return None;
        }
        let Decision {
            notes,
            commands,
            wake_at,
        } = self.model.plan.decide(now().boot_us);
        for Note::Enter {
            state,
            outcome,
            budget_us,
            reason,
        } in notes
        {
            self.note_stage(state.into(), outcome.into(), budget_us, reason);
        }
        for command in commands {
            let order = match command {
                Command::Start { process, run } => {
                    Order::Launch(self.launches.of(&self.model.task, process, run))
                }
                Command::StopAll => Order::StopAll(wire::StopAll {}),
                Command::KillRun { process, run } => Order::KillRun(wire::KillRun {
                    process: process as u32,
                    run,
                }),
                Command::KillAll => Order::KillAll(wire::KillAll {}),
                Command::AwaitEmpty => Order::AwaitEmpty(wire::AwaitEmpty {}),
                Command::Close => Order::Close(wire::Close {}),
            };
            self.order(order);
        }
        wake_at
    }

    fn note_stage(&mut self, state: TaskState, outcome: TaskState, budget_us: u64, reason: String) {
        let stage = Stage {
            state: state.into(),
            outcome: outcome.into(),
            budget_us,
            reason,
        };
        let note = Record::new(now(), Kind::Stage(stage));
        self.batch.notes.push(note);
    }

    fn order(&mut self, order: Order) {
        self.batch
            .commands
            .push(wire::Command { kind: Some(order) });
    }

    /// The bytes of the batch, if there is anything to say.
    fn take_batch(&mut self) -> Vec<u8> {
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

fn line_of(event: &Event) -> Arc<str> {
    match serde_json::to_string(event) {
        Ok(line) => (line + "\n").into(),
        Err(error) => {
            tracing::error!("an event that is no JSON: {error}");
            "{}\n".into()
        }
    }
}

/// The journal; of a task that is just beginning, what the keeper is about to write there.
fn replay(path: &str, count: usize, welcome: &wire::Report) -> io::Result<journal::Replay> {
    let distrust = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    if count > 0 {
        return journal::read(path.as_ref())
            .map_err(|error| distrust(error.to_string()))?
            .ok_or_else(|| distrust("the journal is empty".to_owned()));
    }
    let first = welcome.records.first().and_then(|one| one.record.as_ref());
    match first.and_then(|record| record.kind.as_ref()) {
        Some(Kind::Header(header)) => Ok(journal::Replay {
            header: header.clone(),
            records: Vec::new(),
            end: 0,
            torn: None,
        }),
        _ => Err(distrust("there is no header".to_owned())),
    }
}

/// Reads what is there; false at the end.
fn receive(link: &UnixStream, inbox: &mut LinkBuffer) -> io::Result<bool> {
    let mut chunk = [0; 16 << 10];
    loop {
        match link.try_read(&mut chunk) {
            Ok(0) => return Ok(false),
            Ok(count) => inbox.extend(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

fn send(link: &UnixStream, outbox: &mut Vec<u8>) -> io::Result<()> {
    while !outbox.is_empty() {
        match link.try_write(outbox) {
            Ok(count) => {
                outbox.drain(..count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The keeper died; reading finds the end.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => outbox.clear(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
