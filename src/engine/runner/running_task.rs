//! One task that runs: its model, and the translation of its plan's decisions into notes and orders
//! for the keeper.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use super::{
    disk_watch::DiskWatch,
    health_check::{Checkup, Outcome, Verdict},
    launch_orders::{Launches, is_there},
};
use crate::{
    engine::{
        history::{Event, Growth, Model, TaskStatus, next_start_at, snapshot},
        ipc::JOURNAL,
        plan::{self, Command, Decision, Fact, NoRestart, Note},
    },
    journal::{self, KillRequest, Kind, Record, Replay, Restart, Stage, TaskState, TimedOut},
    protocols::dewar::{link as wire, link::command::Kind as Order},
    resources::DiskUsage,
    sys::clock::now,
    task::{Health, Period, Probe, StopSignal, shown_bytes},
};

/// Those behind it are real-time ones.
const LAST_SIGNAL: u32 = 31;

/// A task and what it has to say to the keeper.
#[derive(Debug)]
pub struct Running {
    number: u32,
    model: Model,
    launches: Launches,
    journal: String,
    /// Its last words are on disk.
    over: bool,
    /// A request to end that has to be made.
    post: Option<Post>,
    /// The result of the last report.
    reported: Option<Option<i32>>,
    growth: Growth,
    has_checks: bool,
    checkups: BTreeMap<Subject, Checkup>,
    disk: Option<DiskWatch>,
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// Whether the task as a whole works.
    Task,
    /// Whether a run of a process works.
    Run(usize, u32),
    /// What a scheduler only wants to know.
    Report,
}

impl Subject {
    /// The process and the run, if it is about one.
    fn run(self) -> Option<(usize, u32)> {
        match self {
            Subject::Run(process, run) => Some((process, run)),
            Subject::Task | Subject::Report => None,
        }
    }
}

/// An attempt that has to be made.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub subject: Subject,
    pub probe: Probe,
    pub timeout: Duration,
    /// Somebody wants every attempt to succeed for now.
    pub is_snoozed: bool,
}

/// How long a task may take to answer a request to end, at most.
const POST_PATIENCE: Duration = Duration::from_secs(5);

/// A request to a task that it end itself.
#[derive(Clone, Debug)]
pub(super) struct Post {
    /// The second request.
    pub abort: bool,
    /// What an answer may take.
    pub patience: Duration,
    pub port: u16,
    pub path: String,
}

/// In the sandbox.
const SNOOZE: &str = ".healthchecksnooze";

impl Running {
    /// The task `number` whose journal is in `directory`, of whose records the first `count` are on
    /// disk.
    ///
    /// # Errors
    /// When the header's task cannot be read.
    pub(super) fn new(
        number: u32,
        directory: &str,
        replay: Replay,
        count: usize,
    ) -> Result<Running, serde_json::Error> {
        let model = Model::replay(&replay, count)?;
        let state = model.plan.state();
        let reported = model.history.checked();
        let mut checks = model.task.processes.iter().map(|process| &process.health);
        let has_checks = model.task.health.is_some()
            || model.task.check.is_some()
            || checks.any(Option::is_some);
        let disk = DiskWatch::of(&model.task);
        Ok(Running {
            number,
            model,
            launches: Launches::new(replay.header, number > 0),
            journal: format!("{directory}/{JOURNAL}"),
            over: state.is_some_and(plan::TaskState::is_terminal),
            post: None,
            reported,
            growth: Growth::of(count.min(replay.records.len())),
            has_checks,
            checkups: BTreeMap::new(),
            disk,
        })
    }

    /// What was asked for and what happened.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// True when the task is over and that is on disk.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// For programs. `pids` are those of root, keeper and runner.
    pub fn status(&self, pids: [Option<u32>; 3]) -> TaskStatus {
        let model = &self.model;
        model
            .history
            .status(&model.plan, &self.journal, pids, now())
    }

    /// Knows a record that is not on disk yet. Our own notes come back to us for the history; the
    /// plan knows them already.
    pub(super) fn learn(&mut self, record: &Record) {
        // What is said of a run (that it is unhealthy, late, wanted anew) counts where it stands in
        // the journal: the run may have ended before that.
        let is_note = matches!(record.kind, Some(Kind::Stage(_) | Kind::Kill(_)));
        if !is_note {
            self.model.learn(record);
        }
    }

    /// Knows a record of an earlier runner's, be it a note.
    pub(super) fn learn_all(&mut self, record: &Record) {
        self.model.learn(record);
    }

    /// A record is on disk: what followers should hear of it.
    pub(super) fn tell(&mut self, record: &Record) -> Option<Event> {
        self.growth.add();
        let mut event = self.model.history.apply(record);
        if let (Some(Event::Run(run)), Some(Kind::End(end))) = (&mut event, &record.kind) {
            run.next_start_at = next_start_at(&self.model.plan, end.process as usize, now());
        }
        if let Some(Kind::Stage(stage)) = &record.kind {
            let state = stage.state().known();
            self.over |= state.is_some_and(plan::TaskState::is_terminal);
        }
        event
    }

    /// Orders a compaction of the journal when it has grown enough.
    pub(super) fn compact(&mut self, batch: &mut wire::Batch) {
        if !self.growth.is_due() || self.has_ended() {
            return;
        }
        match journal::read(self.journal.as_ref()) {
            Ok(Some(replay)) => {
                let snapshot = snapshot(&replay, &self.model.task);
                self.growth.compacted(snapshot.kept.len() + 2);
                self.order(order_of(snapshot), batch);
            }
            Ok(None) => {}
            Err(error) => {
                // Whoever needs it will find the same and say so.
                tracing::warn!("no compaction: {error}");
                self.growth.compacted(usize::MAX / 4);
            }
        }
    }

    /// Nothing of it is alive.
    pub(super) fn is_empty(&mut self) {
        self.model.plan.is_empty();
    }

    /// What an earlier runner or keeper left undone: `unlaunched` runs never passed their gate.
    /// The output of `held` ones waits to be read.
    pub(super) fn resume(
        &mut self,
        unlaunched: &[wire::Unlaunched],
        held: &[wire::Held],
        batch: &mut wire::Batch,
    ) {
        let task = self.number;
        for run in unlaunched.iter().filter(|run| run.task == task) {
            let process = run.process as usize;
            let order = match self.model.plan.may_start(process) {
                true => Order::Launch(self.launches.of(&self.model.task, process, run.run)),
                false => Order::Abandon(wire::Abandon {
                    process: run.process,
                    run: run.run,
                }),
            };
            self.order(order, batch);
        }
        let mut read: BTreeSet<(usize, u32)> = self.model.plan.live().into_iter().collect();
        let held = held.iter().filter(|held| held.task == task);
        read.extend(held.map(|held| (held.process as usize, held.run)));
        for (process, run) in read {
            let launch = self.launches.of(&self.model.task, process, run);
            let is_pumped = launch
                .log
                .is_some_and(|log| log.rotate_bytes > 0 || log.echo);
            if is_pumped {
                self.order(Order::ReadOutput(launch), batch);
            }
        }
    }

    /// Somebody wants it to end. One that has ended takes no more notes.
    pub(super) fn kill(&mut self, at_once: bool, budget_us: Option<u64>, batch: &mut wire::Batch) {
        if self.has_ended() {
            return;
        }
        let at = now();
        let fact = Fact::KillRequested {
            now: at_once,
            budget_us,
        };
        self.model.plan.apply(&fact, at.boot_us);
        let request = KillRequest {
            now: at_once,
            budget_us,
            reason: String::new(),
        };
        self.note(Record::new(at, Kind::Kill(request)), batch);
    }

    /// Somebody wants the process called `name` anew.
    ///
    /// # Errors
    /// Why that cannot be.
    pub(super) fn restart(&mut self, name: &str, batch: &mut wire::Batch) -> Result<(), String> {
        let process = self.process(name)?;
        if let Some(refusal) = self.model.plan.refuses_restart(process) {
            let why = match refusal {
                NoRestart::NotActive => "the task is stopping".to_owned(),
                NoRestart::Final => "it is a final process".to_owned(),
                NoRestart::Blocked => {
                    let names = &self.model.task.processes;
                    let others: Vec<&str> = self
                        .model
                        .plan
                        .waiting_for(process)
                        .map(|other| names[other].name.as_str())
                        .collect();
                    format!("it has not begun: it waits for {}", others.join(", "))
                }
                NoRestart::Skipped => "it was skipped: nobody needs it".to_owned(),
            };
            return Err(format!("{name} cannot be restarted: {why}"));
        }
        let restart = Restart {
            process: process as u32,
        };
        self.note(Record::new(now(), Kind::Restart(restart)), batch);
        Ok(())
    }

    /// Somebody wants a signal sent to the process called `name`.
    ///
    /// # Errors
    /// When there is no such process, or it does not run.
    pub(super) fn signal(
        &mut self,
        name: &str,
        signal: u32,
        batch: &mut wire::Batch,
    ) -> Result<(), String> {
        if !(1..=LAST_SIGNAL).contains(&signal) {
            return Err(format!(
                "{signal} is no signal that can be sent: 1 to {LAST_SIGNAL} are"
            ));
        }
        let process = self.process(name)?;
        let live = self.model.plan.live();
        let Some((_, run)) = live.into_iter().find(|(other, _)| *other == process) else {
            return Err(format!("{name} does not run"));
        };
        let process = process as u32;
        let record = journal::Signal {
            process,
            run,
            signal,
        };
        self.note(Record::new(now(), Kind::Signal(record)), batch);
        let order = wire::SignalRun {
            process,
            run,
            signal,
        };
        self.order(Order::SignalRun(order), batch);
        Ok(())
    }

    fn process(&self, name: &str) -> Result<usize, String> {
        let mut all = self.model.task.processes.iter();
        all.position(|process| process.name == name)
            .ok_or_else(|| format!("no process {name:?} in this task"))
    }

    /// Its record cannot be kept and everything has been killed: it is LOST.
    pub(super) fn lose(&mut self, batch: &mut wire::Batch) {
        let lost = Fact::Entered {
            state: plan::TaskState::Lost,
            outcome: plan::TaskState::Lost,
            budget_us: 0,
        };
        self.model.plan.apply(&lost, now().boot_us);
        let reason = "the journal cannot be written".to_owned();
        self.note_stage(TaskState::Lost, TaskState::Lost, 0, reason, batch);
    }

    /// True when the plan has come to its end, on disk or not.
    pub(super) fn has_ended(&self) -> bool {
        let state = self.model.plan.state();
        state.is_some_and(plan::TaskState::is_terminal)
    }

    /// The attempts of health checks that are due now. Those that a bash makes are ordered from the
    /// keeper, the others are returned.
    pub(super) fn attempts(&mut self, batch: &mut wire::Batch) -> Vec<Attempt> {
        if !self.has_checks {
            return Vec::new();
        }
        self.renew_checkups();
        let clock = now().boot_us;
        let due: Vec<(Subject, Health)> = self
            .checkups
            .iter_mut()
            .filter_map(|(subject, checkup)| {
                checkup
                    .take(clock)
                    .then(|| (*subject, checkup.health().clone()))
            })
            .collect();
        let mut attempts = Vec::new();
        let is_snoozed = !due.is_empty() && self.is_snoozing();
        for (subject, health) in due {
            let run = subject.run();
            let timeout = health.timeout.duration();
            match health.probe {
                Probe::Shell(script) if !is_snoozed => {
                    let probe = wire::Probe {
                        launch: Some(self.launches.of_probe(&self.model.task, run, &script)),
                        timeout_us: timeout.as_micros() as u64,
                        of_process: run.is_some(),
                        is_check: subject == Subject::Report,
                    };
                    self.order(Order::Probe(probe), batch);
                }
                probe => attempts.push(Attempt {
                    subject,
                    probe,
                    timeout,
                    is_snoozed,
                }),
            }
        }
        attempts
    }

    fn is_snoozing(&self) -> bool {
        is_there(&self.launches.sandbox().join(SNOOZE), &self.model.task)
    }

    /// Checks follow the runs that there are.
    fn renew_checkups(&mut self) {
        let plan = &self.model.plan;
        let is_active = plan.state() == Some(plan::TaskState::Active);
        let runs = is_active || plan.state() == Some(plan::TaskState::Finalizing);
        let live = match runs {
            true => plan.live(),
            false => Vec::new(),
        };
        self.checkups.retain(|subject, _| match subject {
            Subject::Run(process, run) => live.contains(&(*process, *run)),
            Subject::Task | Subject::Report => is_active,
        });
        let clock = now().boot_us;
        let task = &self.model.task;
        for (process, run) in live {
            if let Some(health) = &task.processes[process].health {
                let was_healthy = plan.was_healthy(process, run);
                self.checkups
                    .entry(Subject::Run(process, run))
                    .or_insert_with(|| Checkup::new(health.clone(), was_healthy, clock));
            }
        }
        // The task as a whole is asked once something of it runs.
        let history = &self.model.history;
        if is_active && history.has_started() {
            let of_task = [
                (Subject::Task, &task.health, history.healthy() == Some(true)),
                (Subject::Report, &task.check, false),
            ];
            for (subject, health, was_healthy) in of_task {
                if let Some(health) = health {
                    self.checkups
                        .entry(subject)
                        .or_insert_with(|| Checkup::new(health.clone(), was_healthy, clock));
                }
            }
        }
    }

    /// The request to end that has to be made now, if there is one.
    pub(super) fn take_post(&mut self) -> Option<Post> {
        self.post.take()
    }

    /// Nobody took the request to end.
    pub(super) fn post_failed(&mut self, abort: bool) {
        self.model.plan.post_failed(abort);
    }

    fn request(&self, abort: bool) -> Option<Post> {
        let lifecycle = self.model.task.lifecycle.as_ref()?;
        let (path, wait) = match abort {
            true => (&lifecycle.shutdown_endpoint, lifecycle.shutdown_wait),
            false => (
                &lifecycle.graceful_shutdown_endpoint,
                lifecycle.graceful_shutdown_wait,
            ),
        };
        Some(Post {
            abort,
            patience: wait.duration().min(POST_PATIENCE),
            port: lifecycle.port,
            path: path.clone(),
        })
    }

    /// When the next attempt is due.
    pub(super) fn next_attempt(&self) -> Option<u64> {
        self.checkups.values().filter_map(Checkup::due_at).min()
    }

    /// How an attempt ended.
    pub(super) fn attempted(
        &mut self,
        subject: Subject,
        outcome: Outcome,
        batch: &mut wire::Batch,
    ) {
        let Some(checkup) = self.checkups.get_mut(&subject) else {
            return;
        };
        let at = now();
        let value = outcome.value;
        let verdict = checkup.attempted(outcome.result, at.boot_us);
        if subject == Subject::Report {
            if self.reported != Some(value) {
                self.reported = Some(value);
                let checked = journal::Checked { value };
                self.note(Record::new(at, Kind::Checked(checked)), batch);
            }
            return;
        }
        let Some(verdict) = verdict else {
            return;
        };
        let (healthy, reason) = match verdict {
            Verdict::Healthy => (true, String::new()),
            Verdict::Unhealthy(reason) => (false, reason),
        };
        let run = subject.run();
        let health = journal::Health {
            process: run.map(|(process, _)| process as u32),
            run: run.map_or(0, |(_, run)| run),
            healthy,
            reason,
        };
        self.note(Record::new(at, Kind::Health(health)), batch);
    }

    /// The sandbox that has to be walked through now, if it is time.
    pub(super) fn take_walk(&mut self) -> Option<PathBuf> {
        let is_active = self.model.plan.state() == Some(plan::TaskState::Active);
        let is_due = is_active && self.disk.as_mut()?.begin(now().boot_us);
        is_due.then(|| self.launches.sandbox().to_path_buf())
    }

    /// When that is.
    pub(super) fn next_walk(&self) -> Option<u64> {
        let is_active = self.model.plan.state() == Some(plan::TaskState::Active);
        self.disk.as_ref().filter(|_| is_active)?.due_at()
    }

    /// What a walk found.
    pub(super) fn walked(&mut self, found: DiskUsage, batch: &mut wire::Batch) {
        let Some(disk) = &mut self.disk else { return };
        let at = now();
        let is_first = disk.walked(found, at.boot_us);
        let (limit, interval) = (disk.limit(), disk.interval());
        if is_first {
            let notice = journal::Notice {
                text: format!(
                    "the sandbox may take {}; it is looked at every {interval}",
                    shown_bytes(limit)
                ),
                ..journal::Notice::default()
            };
            self.note(Record::new(at, Kind::Notice(notice)), batch);
        }
        let is_active = self.model.plan.state() == Some(plan::TaskState::Active);
        if found.bytes > limit && is_active {
            let exceeded = journal::Exceeded {
                used: found.bytes,
                limit,
            };
            self.note(Record::new(at, Kind::Exceeded(exceeded)), batch);
        }
    }

    /// Lets the plan decide; returns when it wants to be asked again.
    pub(super) fn decide(&mut self, batch: &mut wire::Batch) -> Option<u64> {
        let Decision {
            notes,
            commands,
            wake_at,
        } = self.model.plan.decide(now().boot_us);
        for note in notes {
            match note {
                Note::Enter {
                    state,
                    outcome,
                    budget_us,
                    reason,
                } => self.note_stage(state.into(), outcome.into(), budget_us, reason, batch),
                Note::TimeOut { process, run } => {
                    let late = TimedOut {
                        process: process as u32,
                        run,
                        after_us: self.model.task.processes[process]
                            .timeout
                            .map_or(0, Period::as_micros),
                    };
                    self.note(Record::new(now(), Kind::TimedOut(late)), batch);
                }
            }
        }
        for command in commands {
            let order = match command {
                Command::Start { process, run } => {
                    Order::Launch(self.launches.of(&self.model.task, process, run))
                }
                Command::Post { abort } => {
                    self.post = self.request(abort);
                    continue;
                }
                Command::StopAll => Order::StopAll(wire::StopAll {
                    signals: self.launches.stop_signals(&self.model.task),
                }),
                Command::StopRun { process, run } => {
                    let signal = self.model.task.processes[process].stop_signal;
                    Order::StopRun(wire::StopRun {
                        process: process as u32,
                        run,
                        signal: signal.unwrap_or(StopSignal::TERM).number(),
                    })
                }
                Command::TellLingering => {
                    let left = self.model.plan.deadline().unwrap_or_default();
                    let left = left.saturating_sub(now().boot_us) as f64 / 1e6;
                    Order::TellLingering(wire::TellLingering {
                        prospect: format!("SIGKILL in {left:.1}s at the latest"),
                    })
                }
                Command::KillRun { process, run } => Order::KillRun(wire::KillRun {
                    process: process as u32,
                    run,
                }),
                Command::KillAll => Order::KillAll(wire::KillAll {}),
                Command::AwaitEmpty => Order::AwaitEmpty(wire::AwaitEmpty {}),
                // A member is closed when its overseer has said how it ended: until then its journal
                // is all that anybody knows.
                Command::Close if self.number > 0 => continue,
                Command::Close => Order::Close(wire::Close {}),
            };
            self.order(order, batch);
        }
        wake_at
    }

    fn note_stage(
        &self,
        state: TaskState,
        outcome: TaskState,
        budget_us: u64,
        reason: String,
        batch: &mut wire::Batch,
    ) {
        let stage = Stage {
            state: state.into(),
            outcome: outcome.into(),
            budget_us,
            reason,
        };
        self.note(Record::new(now(), Kind::Stage(stage)), batch);
    }

    fn note(&self, record: Record, batch: &mut wire::Batch) {
        note(self.number, record, batch);
    }

    fn order(&self, what: Order, batch: &mut wire::Batch) {
        order(self.number, what, batch);
    }
}

/// What puts a snapshot in the place of old records.
pub(super) fn order_of(snapshot: journal::Snapshot) -> Order {
    Order::Compact(wire::Compact {
        snapshot: Some(Record::new(now(), Kind::Snapshot(snapshot))),
    })
}

/// Adds a record for the journal of `task`.
pub(super) fn note(task: u32, record: Record, batch: &mut wire::Batch) {
    batch.notes.push(wire::Numbered {
        seq: 0,
        record: Some(record),
        task,
    });
}

/// Adds something to do about `task`.
pub(super) fn order(task: u32, what: Order, batch: &mut wire::Batch) {
    batch.commands.push(wire::Command {
        kind: Some(what),
        task,
    });
}
