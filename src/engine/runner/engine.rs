//! The engine of a runner: reports and requests in, decisions out, clients told.
//!
//! A task's plan learns of a record at once; its history, and through it clients and the steering,
//! learns of it when it is on disk. The engine does no work that could hold it up (`side_work.rs`)
//! and touches no process: orders for the keeper go into a batch.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use super::{
    background_work::{self, Outcome, Outcomes},
    batch::{compaction, note, order},
    clients::{ClientId, ClientMessage, Clients},
    error::{Refusal, RunnerError},
    first_report::{Welcomed, replay_journals},
    health_check::{AttemptResult, Subject},
    keeper_features::features_of_keeper,
    running_task::RunningTask,
    steering::{Members, Steering, Want},
};
use crate::{
    engine::{
        history::{Event, Growth},
        ipc::{Holder, HoldersView, LIVE, Request, frame_message},
        plan,
    },
    journal::{self, Beyond, Features, Kind, Notice, Record, Snapshot, is_understood},
    protocols::dewar::{link as wire, link::command::Kind as Order},
    resources::DiskUsage,
    sys::clock::now,
};

/// All that a runner knows.
pub(super) struct Engine {
    pub tasks: Members,
    pub steering: Option<Box<dyn Steering>>,
    live: File,
    /// The group's own journal, if there is a steering: its path, and how it grows.
    group_journal: Option<(String, Growth)>,
    /// Records that are known but not yet on disk: their number, task and content.
    pub undurable: VecDeque<(u64, u32, Record)>,
    /// The steering decides once the records up to this one are on disk: what an earlier runner
    /// wanted comes first.
    steers_from: u64,
    durable: u64,
    pub clients: Clients,
    outcomes: Outcomes,
    /// Notes and orders for the next batch.
    batch: wire::Batch,
    /// What the keeper can carry out.
    can: Features,
    /// The keeper waits for an answer, even for an empty batch.
    must_answer: bool,
    /// The journal cannot be written.
    journal_failed: bool,
    is_leaving: bool,
}

impl Engine {
    /// Replays the journals that the keeper's first report names.
    pub fn new(
        directory: &OwnedFd,
        clients: Clients,
        outcomes: Outcomes,
        mut steering: Option<Box<dyn Steering>>,
        mut welcome: wire::Report,
    ) -> Result<Engine, RunnerError> {
        let steers_from = welcome.records.last().map_or(0, |last| last.seq);
        let can = features_of_keeper(&welcome);
        let Welcomed {
            tasks,
            group_journal,
        } = replay_journals(&mut welcome, &mut steering, can)?;
        let live = nix::fcntl::openat(
            directory.as_fd(),
            LIVE,
            nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        )
        .map_err(io::Error::from)?;
        let mut engine = Engine {
            tasks,
            steering,
            live: live.into(),
            group_journal,
            undurable: VecDeque::new(),
            steers_from,
            durable: 0,
            clients,
            outcomes,
            batch: wire::Batch {
                knows: Features::all().numbers(),
                ..wire::Batch::default()
            },
            can,
            must_answer: false,
            journal_failed: false,
            is_leaving: false,
        };
        for task in engine.tasks.values_mut() {
            task.resume(&welcome.unlaunched, &welcome.held, &mut engine.batch);
        }
        engine.take_report(welcome)?;
        Ok(engine)
    }

    /// The keeper reports.
    ///
    /// # Errors
    /// The keeper wrote what this version must understand and does not.
    pub fn on_report(&mut self, report: wire::Report) -> Result<(), RunnerError> {
        for numbered in &report.records {
            if let (Some(task), Some(record)) =
                (self.tasks.get_mut(&numbered.task), &numbered.record)
            {
                task.learn(record);
            }
        }
        self.take_report(report)
    }

    /// Takes in a report whose records the plans know already.
    fn take_report(&mut self, report: wire::Report) -> Result<(), RunnerError> {
        self.check_records(&report)?;
        self.batch.answers = report.number;
        self.must_answer |= !report.records.is_empty()
            || !report.empty.is_empty()
            || !report.journals.is_empty()
            || !report.probed.is_empty()
            || !report.not_understood.is_empty();
        for refused in &report.not_understood {
            self.tell_not_understood(refused);
        }
        for numbered in report.records {
            if let Some(record) = numbered.record {
                let entry = (numbered.seq, numbered.task, record);
                self.undurable.push_back(entry);
            }
        }
        if let Some(error) = report.journal_failed {
            tracing::error!("the journal cannot be written: {error}");
            self.journal_failed = true;
        }
        for probed in report.probed {
            self.on_outcome(outcome_of(probed));
        }
        for number in report.empty {
            if let Some(task) = self.tasks.get_mut(&number) {
                task.note_empty();
                if self.journal_failed {
                    task.lose(&mut self.batch);
                }
            }
        }
        self.durable = self.durable.max(report.durable);
        self.publish_durable();
        Ok(())
    }

    /// Finds records of kinds that this version does not know.
    fn check_records(&self, report: &wire::Report) -> Result<(), Beyond> {
        let mut records = report.records.iter();
        let beyond = records.find(|one| !one.record.as_ref().is_none_or(is_understood));
        let Some(beyond) = beyond else {
            return Ok(());
        };
        let task = self.tasks.get(&beyond.task);
        let task = task.map_or_else(String::new, |task| {
            task.model().history.task_id().to_owned()
        });
        Err(Beyond::Kind { task })
    }

    /// An order came to nothing, because the keeper does not know it: that is told to the user.
    fn tell_not_understood(&mut self, refused: &wire::NotUnderstood) {
        let (batch, command) = (refused.batch, refused.command);
        let text = format!(
            "an order of the runner came to nothing: this task's keeper is of an older version and \
             does not know it (order {command} of batch {batch})"
        );
        tracing::error!("{text}");
        let notice = Notice {
            text,
            ..Notice::default()
        };
        let record = Record::new(now(), Kind::Notice(notice));
        note(refused.task, record, &mut self.batch);
    }

    /// Tells histories, followers and the steering of the records that are on disk by now.
    fn publish_durable(&mut self) {
        while let Some((seq, ..)) = self.undurable.front() {
            // A record that can never be on disk is still the best that is known.
            if *seq > self.durable && !self.journal_failed {
                break;
            }
            let Some((seq, number, record)) = self.undurable.pop_front() else {
                break;
            };
            // An end that is not on disk is none: the task is LOST instead.
            if seq > self.durable && self.tasks.contains_key(&number) && is_good_end(&record) {
                continue;
            }
            self.publish(number, &record);
        }
    }

    fn publish(&mut self, number: u32, record: &Record) {
        match (&mut self.steering, self.tasks.get_mut(&number)) {
            (_, Some(task)) => {
                let event = task.on_durable(record);
                let is_over = task.is_over();
                if let Some(mut event) = event
                    && self.clients.has_followers(number)
                {
                    task.tell_skipped(&mut event);
                    self.clients.broadcast(number, &line_of(&event));
                }
                if is_over {
                    self.clients.release(number);
                }
            }
            (Some(steering), None) if number == 0 => {
                steering.recorded(record);
                if let Some((_, growth)) = &mut self.group_journal {
                    growth.add();
                }
            }
            _ => {}
        }
    }

    /// A client sent or did something.
    pub fn on_client(&mut self, message: ClientMessage) {
        let (id, request) = match message {
            ClientMessage::Request(id, request) => (id, request),
            ClientMessage::Malformed(id, why) => return self.refuse(id, &Refusal::Malformed(why)),
            ClientMessage::Left(id) => return self.clients.remove(id),
        };
        if let Err(refusal) = self.serve(id, request) {
            self.refuse(id, &refusal);
        }
    }

    fn serve(&mut self, id: ClientId, request: Request) -> Result<(), Refusal> {
        let pids = self.pids();
        let (number, task) = find(&mut self.tasks, request.task())?;
        match request {
            Request::Follow { .. } => {
                let status = Event::Status(Box::new(task.status(pids)));
                self.clients.send(id, &line_of(&status));
                self.clients.follow(id, number);
            }
            Request::Status { .. } => {
                let status = Event::Status(Box::new(task.status(pids)));
                self.clients.send(id, &line_of(&status));
            }
            Request::Restart { process, .. } => task.restart(&process, &mut self.batch)?,
            Request::Signal {
                process, signal, ..
            } => task.signal(&process, signal, &mut self.batch)?,
            Request::Kill { now, budget_us, .. } => task.kill(now, budget_us, &mut self.batch),
        }
        Ok(())
    }

    fn refuse(&mut self, id: ClientId, refusal: &Refusal) {
        let refused = Event::Refused {
            busy: false,
            message: refusal.to_string(),
        };
        self.clients.send(id, &line_of(&refused));
    }

    /// A piece of work beside the engine is over.
    pub fn on_outcome(&mut self, outcome: Outcome) {
        let (Outcome::Attempt(number, ..)
        | Outcome::Walk(number, _)
        | Outcome::PostFailed { task: number, .. }) = outcome;
        let Some(task) = self.tasks.get_mut(&number) else {
            return;
        };
        match outcome {
            Outcome::Attempt(_, subject, result) => {
                task.on_attempt(subject, result, &mut self.batch);
            }
            Outcome::Walk(_, found) => task.on_walk(found, &mut self.batch),
            Outcome::PostFailed { abort, .. } => task.on_post_failed(abort),
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

    /// Lets the steering and the plans decide; returns when they want to be asked again.
    pub fn decide(&mut self) -> Result<Option<u64>, RunnerError> {
        let mut wake_at = self.steer()?;
        for (number, task) in &mut self.tasks {
            if self.journal_failed && !task.has_ended() {
                // The keeper kills everything by itself; there is nothing left to decide.
                continue;
            }
            wake_at = earlier(wake_at, task.decide(&mut self.batch));
            if let Some(post) = task.take_post() {
                tokio::spawn(background_work::post(*number, post, self.outcomes.clone()));
            }
            for attempt in task.attempts(&mut self.batch) {
                tokio::spawn(background_work::attempt(
                    *number,
                    attempt,
                    self.outcomes.clone(),
                ));
            }
            wake_at = earlier(wake_at, task.next_attempt());
            if let Some(sandbox) = task.take_walk()
                && !background_work::walk(*number, sandbox, self.outcomes.clone())
            {
                // The next walk is tried as if this one had found nothing.
                task.on_walk(DiskUsage::default(), &mut self.batch);
            }
            wake_at = earlier(wake_at, task.next_walk());
            if !self.journal_failed {
                task.compact(&mut self.batch);
            }
        }
        self.compact_group_journal();
        Ok(wake_at)
    }

    /// Orders a compaction of the group's own journal when it has grown enough.
    fn compact_group_journal(&mut self) {
        let (Some(steering), Some((path, growth))) = (&self.steering, &mut self.group_journal)
        else {
            return;
        };
        if !growth.is_due() || self.journal_failed || self.is_leaving {
            return;
        }
        match journal::read(path.as_str().as_ref()) {
            // What a later version wrote and this one may pass over is not to be lost.
            Ok(Some(replay)) if replay.has_unknown() => {
                growth.give_up();
            }
            Ok(Some(replay)) => {
                let snapshot = Snapshot {
                    dropped: Vec::new(),
                    kept: steering.needed(replay.records.get(1..).unwrap_or_default()),
                    through: replay.total(),
                };
                growth.compacted(snapshot.kept.len() + 2);
                order(0, compaction(snapshot), &mut self.batch);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!("no compaction: {error}");
                growth.give_up();
            }
        }
    }

    fn steer(&mut self) -> Result<Option<u64>, RunnerError> {
        let Some(mut steering) = self.steering.take() else {
            return Ok(None);
        };
        let mut wake_at = None;
        if self.durable >= self.steers_from || self.journal_failed {
            loop {
                let (wants, next) = steering.decide(now(), &self.tasks);
                wake_at = next;
                if wants.is_empty() {
                    break;
                }
                for want in wants {
                    self.apply_want(want)?;
                }
            }
        }
        self.steering = Some(steering);
        Ok(wake_at)
    }

    fn apply_want(&mut self, want: Want) -> Result<(), RunnerError> {
        match want {
            Want::Note(kind) => note(0, Record::new(now(), *kind), &mut self.batch),
            Want::Open {
                task,
                directory,
                header,
            } => {
                let replay = journal::Replay::of_header((*header).clone());
                let opened = RunningTask::new(task, &directory, replay, 0, self.can);
                self.tasks
                    .insert(task, opened.map_err(RunnerError::NewTask)?);
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
                self.is_leaving = true;
                order(0, Order::Close(wire::Close {}), &mut self.batch);
            }
        }
        Ok(())
    }

    /// True when the runner has nothing left to decide.
    pub fn is_over(&self) -> bool {
        let is_done = |task: &RunningTask| task.is_over();
        self.is_leaving || (self.steering.is_none() && self.tasks.values().all(is_done))
    }

    /// The bytes of the next batch; none when there is nothing to send.
    pub fn take_batch(&mut self) -> Vec<u8> {
        let has_content = !self.batch.notes.is_empty() || !self.batch.commands.is_empty();
        if !has_content && !std::mem::take(&mut self.must_answer) {
            return Vec::new();
        }
        self.must_answer = false;
        let answers = self.batch.answers;
        let batch = std::mem::take(&mut self.batch);
        self.batch.answers = answers;
        frame_message(&batch)
    }
}

/// The task that a client means; a task that is over is not here any more.
fn find<'t>(
    tasks: &'t mut Members,
    name: Option<&str>,
) -> Result<(u32, &'t mut RunningTask), Refusal> {
    let is_only = tasks.len() == 1;
    let mut all = tasks.iter_mut();
    let found = match name {
        None => all.next().filter(|_| is_only),
        Some(name) => all.find(|(_, task)| task.model().history.task_id() == name),
    };
    let refusal = || match name {
        Some(name) => Refusal::NoTask(name.to_owned()),
        None => Refusal::SeveralTasks,
    };
    found
        .map(|(number, task)| (*number, task))
        .ok_or_else(refusal)
}

/// How a health check's script ended that the keeper ran.
fn outcome_of(probed: wire::Probed) -> Outcome {
    let subject = match probed.process {
        Some(process) => Subject::Run(process as usize, probed.run),
        None if probed.is_check => Subject::Report,
        None => Subject::Task,
    };
    let result = AttemptResult {
        failure: (!probed.failure.is_empty()).then_some(probed.failure),
        value: probed.value,
    };
    Outcome::Attempt(probed.task, subject, result)
}

/// True for the record of a task's end that is not LOST.
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
