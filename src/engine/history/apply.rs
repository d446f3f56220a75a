//! Records become history: what each kind of record changes, and what followers are told of it.

use std::time::Duration;

use super::{
    history::{Entry, History, LISTED, NOTICES},
    past::past_of,
    run::{Run, group_of, not_empty},
    signal::Signal,
    status::{Event, NoticeEvent, NoticeKind, RunEvent, TaskEvent},
    wall_time::WallTime,
};
use crate::{
    engine::plan::{RunState, TaskState},
    journal::{
        Again, Cover, End, Exec, Health, Kind, Record, Restart, Snapshot, Stage, Start, TimedOut,
    },
    task::Period,
};

impl History {
    /// Takes in one record; returns what followers are told of it.
    pub fn apply(&mut self, record: &Record) -> Option<Event> {
        let at = record.wall_us;
        match record.kind.as_ref()? {
            Kind::Tenure(tenure) => {
                self.covered = tenure.cover() != Cover::Used;
                None
            }
            Kind::Start(start) => self.apply_start(start, at),
            Kind::Again(again) => self.apply_again(again),
            Kind::Exec(exec) => self.apply_exec(*exec, at),
            Kind::Health(health) => Some(self.apply_health(health, at)),
            Kind::TimedOut(late) => self.apply_timed_out(late),
            Kind::Restart(restart) => self.apply_restart(*restart, at),
            Kind::Signal(signal) => {
                let text = format!("{} requested", Signal(signal.signal));
                let about = (Some(signal.process), Some(signal.run));
                Some(self.notice(at, text, about, Some(NoticeKind::Signal)))
            }
            Kind::End(end) => self.apply_end(end, at),
            Kind::Stage(stage) => self.apply_stage(stage, at),
            Kind::Groups(groups) => {
                // Those that only tell which processes are the task's limit and measure nothing.
                if !groups.tracking {
                    self.groups.clone_from(&groups.directories);
                }
                None
            }
            Kind::Checked(checked) => {
                self.checked = Some(checked.value);
                None
            }
            Kind::Notice(notice) => {
                let about = (notice.process, notice.run);
                Some(self.notice(at, notice.text.clone(), about, None))
            }
            Kind::Snapshot(snapshot) => {
                self.apply_snapshot(snapshot);
                None
            }
            // The header was read when the history began.
            Kind::Header(_)
            // The stage that follows tells of these.
            | Kind::Kill(_)
            | Kind::Init(_)
            | Kind::SignalSent(_)
            | Kind::Exceeded(_)
            // Records that an executor keeps about itself.
            | Kind::Opened(_)
            | Kind::Closed(_)
            | Kind::Accepted(_)
            | Kind::Update(_)
            | Kind::Acknowledged(_)
            | Kind::Subscribed(_)
            | Kind::Fact(_) => None,
        }
    }

    fn apply_start(&mut self, start: &Start, wall_us: u64) -> Option<Event> {
        let history = self.processes.get_mut(start.process as usize)?;
        if history.runs.len() == LISTED {
            history.runs.pop_front();
        }
        if history.runs.is_empty() {
            // Most processes run once.
            history.runs.reserve_exact(1);
        }
        history.runs.push_back(Run::begin(start, wall_us));
        self.run_event(start.process, start.run)
    }

    fn apply_again(&mut self, again: &Again) -> Option<Event> {
        let run = self.run(again.process, again.run)?;
        run.pid = again.pid;
        run.group = group_of(&again.group);
        self.run_event(again.process, again.run)
    }

    fn apply_exec(&mut self, exec: Exec, wall_us: u64) -> Option<Event> {
        self.run(exec.process, exec.run)?.started_us = wall_us;
        self.run_event(exec.process, exec.run)
    }

    fn apply_health(&mut self, health: &Health, wall_us: u64) -> Event {
        if let Some(process) = health.process
            && let Some(run) = self.run(process, health.run)
        {
            match health.healthy {
                true if run.healthy_us > 0 => {}
                true => run.healthy_us = wall_us,
                false => run.condemn(RunState::Failed, format!("unhealthy: {}", health.reason)),
            }
        }
        if health.process.is_none() {
            self.healthy = Some(health.healthy);
        }
        let text = match health.healthy {
            true => "healthy".to_owned(),
            false => format!("unhealthy: {}", health.reason),
        };
        let run = health.process.map(|_| health.run);
        self.notice(wall_us, text, (health.process, run), None)
    }

    /// The record of the run's end tells followers of it.
    fn apply_timed_out(&mut self, late: &TimedOut) -> Option<Event> {
        let after = Period::new(Duration::from_micros(late.after_us));
        let text = format!("timed out after {}", after.unwrap_or_default());
        let run = self.run(late.process, late.run)?;
        run.condemn(RunState::Failed, text);
        None
    }

    fn apply_restart(&mut self, restart: Restart, wall_us: u64) -> Option<Event> {
        let history = self.processes.get_mut(restart.process as usize)?;
        let live = history.runs.back_mut().filter(|run| run.end.is_none());
        let run = live.map(|run| {
            // A restart counts more than what was found of the run before.
            run.condemned = None;
            run.condemn(RunState::Killed, "restarted".to_owned());
            run.number
        });
        let text = "restart requested".to_owned();
        let about = (Some(restart.process), run);
        Some(self.notice(wall_us, text, about, Some(NoticeKind::Restart)))
    }

    fn apply_end(&mut self, end: &End, wall_us: u64) -> Option<Event> {
        let how = end.how.clone()?;
        let state = self.state;
        let history = self.processes.get(end.process as usize)?;
        let stopped = history.did_stop(state, &how);
        let run = self.run(end.process, end.run)?;
        run.stopped = stopped;
        run.end = Some((how, wall_us));
        run.usage = end.usage.map(Box::new);
        run.out_of_memory = end.out_of_memory;
        let state = run.state();
        let history = self.processes.get_mut(end.process as usize)?;
        history.totals.add(state);
        self.run_event(end.process, end.run)
    }

    fn apply_stage(&mut self, stage: &Stage, wall_us: u64) -> Option<Event> {
        let state = stage.state().known()?;
        self.state = Some(state);
        if stage.budget_us > 0 {
            let patience_us = stage.budget_us.saturating_sub(stage.final_us);
            self.deadline = Some(wall_us.saturating_add(patience_us));
            self.final_deadline = Some(wall_us.saturating_add(stage.budget_us));
        }
        if state == TaskState::Finalizing {
            self.deadline = self.final_deadline;
        }
        if state.is_terminal() {
            self.deadline = None;
        }
        self.states.push(Entry {
            state,
            wall_us,
            reason: stage.reason.clone(),
        });
        Some(Event::Task(TaskEvent {
            task_id: self.task_id.clone(),
            state,
            at: WallTime::from_micros(wall_us),
            reason: not_empty(&stage.reason),
            deadline: self.deadline.map(WallTime::from_micros),
            skipped: None,
        }))
    }

    fn apply_snapshot(&mut self, snapshot: &Snapshot) {
        for dropped in &snapshot.dropped {
            if let Some(history) = self.processes.get_mut(dropped.process as usize) {
                history.totals = past_of(dropped).totals;
            }
        }
        for kept in &snapshot.kept {
            self.apply(kept);
        }
    }

    /// Keeps a notice about a process and a run, and returns the event that tells it.
    fn notice(
        &mut self,
        wall_us: u64,
        text: String,
        (process, run): (Option<u32>, Option<u32>),
        kind: Option<NoticeKind>,
    ) -> Event {
        let notice = NoticeEvent {
            at: WallTime::from_micros(wall_us),
            text,
            name: process.and_then(|process| self.name_of(process)),
            run,
            kind,
        };
        if self.notices.len() == NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(notice.clone());
        Event::Notice(notice)
    }

    fn run_event(&mut self, process: u32, run: u32) -> Option<Event> {
        let name = self.name_of(process)?;
        let status = self.run(process, run)?.status();
        Some(Event::Run(RunEvent {
            task_id: self.task_id.clone(),
            name,
            run: status,
            next_start_at: None,
            skipped: None,
        }))
    }
}
