//! One task of a runner: its model, and its plan's decisions as notes and orders for the keeper.
//!
//! The requests of clients are in `task_requests.rs`, health checks and disk in `task_checks.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    background_work::Post,
    batch::{compaction, note, order},
    disk_watch::DiskWatch,
    health_check::{HealthCheck, Subject},
    launch_orders::LaunchOrders,
    promises::Bound,
};
use crate::{
    engine::{
        history::{Event, Growth, Model, TaskStatus, next_start_at, snapshot},
        ipc::JOURNAL,
        keeper::is_pumped,
        plan::{self, Command, Decision, Fact, Note},
    },
    journal::{self, Features, Kind, Notice, Record, Replay, Stage, TaskState, TimedOut},
    protocols::dewar::{link as wire, link::command::Kind as Order},
    sys::clock::now,
    task::{Period, StopSignal, Task},
};

/// A task and what its runner keeps of it.
#[derive(Debug)]
pub struct RunningTask {
    number: u32,
    pub(super) model: Model,
    pub(super) launch_orders: LaunchOrders,
    journal: String,
    /// The record of its last state is on disk.
    is_over: bool,
    /// A request to end that has to be made.
    post: Option<Post>,
    /// The result of the last report of `check`.
    pub(super) reported: Option<Option<i32>>,
    growth: Growth,
    /// The processes of which followers know that they are skipped.
    told_skipped: Vec<String>,
    pub(super) has_checks: bool,
    pub(super) checks: BTreeMap<Subject, HealthCheck>,
    pub(super) disk: Option<DiskWatch>,
}

/// How long a task may take to answer a request to end, at most.
const POST_PATIENCE: Duration = Duration::from_secs(5);

impl RunningTask {
    /// The task `number` whose journal is in `directory`, of whose records the first `count` are on
    /// disk. Its keeper can carry out `can`.
    ///
    /// # Errors
    /// When the header's task cannot be read.
    pub(super) fn new(
        number: u32,
        directory: &str,
        replay: Replay,
        count: usize,
        can: Features,
    ) -> Result<RunningTask, serde_json::Error> {
        let model = Model::replay(&replay, count)?;
        let bound = Bound {
            held: model.held,
            can,
        };
        let state = model.plan.state();
        let reported = model.history.checked();
        let mut checks = model.task.processes.iter().map(|process| &process.health);
        let has_checks = model.task.health.is_some()
            || model.task.check.is_some()
            || checks.any(Option::is_some);
        let disk = DiskWatch::of(&model.task);
        Ok(RunningTask {
            number,
            model,
            launch_orders: LaunchOrders::new(replay.header, number > 0, bound),
            journal: format!("{directory}/{JOURNAL}"),
            is_over: state.is_some_and(plan::TaskState::is_terminal),
            post: None,
            reported,
            growth: Growth::of(count.min(replay.records.len())),
            told_skipped: Vec::new(),
            has_checks,
            checks: BTreeMap::new(),
            disk,
        })
    }

    /// The task, its plan and its history.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// True when the task is over and that is on disk.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The status for programs. `pids` are those of root, keeper and runner.
    pub fn status(&self, pids: [Option<u32>; 3]) -> TaskStatus {
        let model = &self.model;
        model
            .history
            .status(&model.plan, &self.journal, pids, now())
    }

    /// Tells the plan of a record that is not on disk yet. The runner's own notes come back to it
    /// for the history; the plan knows them already.
    pub(super) fn learn(&mut self, record: &Record) {
        // A note about a run (that it is unhealthy, late, or to be restarted) counts where it
        // stands in the journal: the run may have ended before that.
        let is_note = matches!(record.kind, Some(Kind::Stage(_) | Kind::Kill(_)));
        if !is_note {
            self.model.learn(record);
        }
    }

    /// Tells the plan of a record that an earlier runner saw, be it a note.
    pub(super) fn learn_all(&mut self, record: &Record) {
        self.model.learn(record);
    }

    /// A record is on disk; returns what followers are told of it.
    pub(super) fn on_durable(&mut self, record: &Record) -> Option<Event> {
        self.growth.add();
        let mut event = self.model.history.apply(record);
        if let (Some(Event::Run(run)), Some(Kind::End(end))) = (&mut event, &record.kind) {
            run.next_start_at = next_start_at(&self.model.plan, end.process as usize, now());
        }
        if let Some(Kind::Stage(stage)) = &record.kind {
            let state = stage.state().known();
            self.is_over |= state.is_some_and(plan::TaskState::is_terminal);
        }
        event
    }

    /// Adds to an event for followers which processes are skipped, if that has changed.
    pub(super) fn tell_skipped(&mut self, event: &mut Event) {
        let skipped = self.model.history.skipped(&self.model.plan);
        if skipped != self.told_skipped && event.skip(skipped.clone()) {
            self.told_skipped = skipped;
        }
    }

    /// Orders a compaction of the journal when it has grown enough.
    pub(super) fn compact(&mut self, batch: &mut wire::Batch) {
        if !self.growth.is_due() || self.has_ended() {
            return;
        }
        match journal::read(self.journal.as_ref()) {
            // What a later version wrote and this one may pass over is not to be lost.
            Ok(Some(replay)) if replay.has_unknown() => {
                self.growth.give_up();
            }
            Ok(Some(replay)) => {
                let snapshot = snapshot(&replay, &self.model.task);
                self.growth.compacted(snapshot.kept.len() + 2);
                self.order(compaction(snapshot), batch);
            }
            Ok(None) => {}
            Err(error) => {
                // The next process that needs the journal finds the same and reports it.
                tracing::warn!("no compaction: {error}");
                self.growth.give_up();
            }
        }
    }

    /// The keeper says that no process of the task is left.
    pub(super) fn note_empty(&mut self) {
        self.model.plan.note_empty();
    }

    /// Orders what an earlier runner or keeper left undone: the runs of `unlaunched` never passed
    /// their gate, and the output of the runs of `held` waits to be read.
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
                true => Order::Launch(self.launch(process, run.run, batch)),
                false => Order::Abandon(wire::Abandon {
                    process: run.process,
                    run: run.run,
                }),
            };
            self.order(order, batch);
        }
        let held = held.iter().filter(|held| held.task == task);
        let held: BTreeSet<(usize, u32)> =
            held.map(|held| (held.process as usize, held.run)).collect();
        let mut read = held.clone();
        read.extend(self.model.plan.live());
        for (process, run) in read {
            let launch = self.launch_orders.of(&self.model.task, process, run);
            // What is held is a pipe, whatever another version would have made of this order.
            let is_read =
                held.contains(&(process, run)) || launch.log.as_ref().is_some_and(is_pumped);
            if is_read {
                self.order(Order::ReadOutput(launch), batch);
            }
        }
    }

    /// The launch of a run; what of it is not enforced is noted.
    fn launch(&mut self, process: usize, run: u32, batch: &mut wire::Batch) -> wire::Launch {
        let launch = self.launch_orders.of(&self.model.task, process, run);
        for (process, text) in self.launch_orders.take_lifted() {
            let notice = Notice {
                text,
                process: Some(process),
                run: None,
                ..Notice::default()
            };
            self.note(Record::new(now(), Kind::Notice(notice)), batch);
        }
        launch
    }

    /// Its journal cannot be written and its processes have been killed: it is LOST.
    pub(super) fn lose(&mut self, batch: &mut wire::Batch) {
        let lost = Fact::Entered {
            state: plan::TaskState::Lost,
            outcome: plan::TaskState::Lost,
            budget_us: 0,
            final_us: 0,
        };
        self.model.plan.apply(&lost, now().boot_us);
        let stage = Stage {
            state: TaskState::Lost.into(),
            outcome: TaskState::Lost.into(),
            reason: "the journal cannot be written".to_owned(),
            ..Stage::default()
        };
        self.note(Record::new(now(), Kind::Stage(stage)), batch);
    }

    /// True when the plan has come to its end, on disk or not.
    pub(super) fn has_ended(&self) -> bool {
        let state = self.model.plan.state();
        state.is_some_and(plan::TaskState::is_terminal)
    }

    /// The request to end that has to be made now, if there is one.
    pub(super) fn take_post(&mut self) -> Option<Post> {
        self.post.take()
    }

    /// The request to end was not answered, or refused.
    pub(super) fn on_post_failed(&mut self, abort: bool) {
        self.model.plan.post_failed(abort);
    }

    fn post_request(&self, abort: bool) -> Option<Post> {
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

    /// Lets the plan decide; returns when it wants to be asked again.
    pub(super) fn decide(&mut self, batch: &mut wire::Batch) -> Option<u64> {
        let Decision {
            notes,
            commands,
            wake_at,
        } = self.model.plan.decide(now().boot_us);
        for note in notes {
            let kind = self.record_of(note);
            self.note(Record::new(now(), kind), batch);
        }
        for command in commands {
            let order = match command {
                Command::Start { process, run } => Order::Launch(self.launch(process, run, batch)),
                Command::Post { abort } => {
                    self.post = self.post_request(abort);
                    continue;
                }
                Command::StopAll => Order::StopAll(wire::StopAll {
                    signals: self.launch_orders.stop_signals(&self.model.task),
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
                // The steering closes the journals of its tasks: until it has told of a task's end,
                // the journal is all that a successor has to tell it from.
                Command::Close if self.number > 0 => continue,
                Command::Close => Order::Close(wire::Close {}),
            };
            self.order(order, batch);
        }
        wake_at
    }

    /// What the journal has of a note of the plan.
    fn record_of(&self, note: Note) -> Kind {
        match note {
            Note::Enter {
                state,
                outcome,
                budget_us,
                final_us,
                reason,
                without_time,
            } => Kind::Stage(Stage {
                state: TaskState::from(state).into(),
                outcome: TaskState::from(outcome).into(),
                budget_us,
                reason: match without_time.is_empty() {
                    true => reason,
                    false => no_time_for(&self.model.task, &without_time),
                },
                final_us,
            }),
            Note::TimeOut { process, run } => {
                let timeout = self.model.task.processes[process].timeout;
                Kind::TimedOut(TimedOut {
                    process: process as u32,
                    run,
                    after_us: timeout.map_or(0, Period::as_micros),
                })
            }
        }
    }

    pub(super) fn note(&self, record: Record, batch: &mut wire::Batch) {
        note(self.number, record, batch);
    }

    pub(super) fn order(&self, what: Order, batch: &mut wire::Batch) {
        order(self.number, what, batch);
    }
}

/// Which final processes never ran, for people.
fn no_time_for(task: &Task, processes: &[usize]) -> String {
    let names: Vec<&str> = processes
        .iter()
        .map(|process| task.processes[*process].name.as_str())
        .collect();
    let what = match names.len() {
        1 => "final process",
        _ => "final processes",
    };
    format!("no time was left for {what} {}", names.join(", "))
}
