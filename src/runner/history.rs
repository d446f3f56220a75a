//! What happened, from the records alone, in the form that people and programs are shown.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    config::Task,
    journal::{Cover, Header, How, Kind, Record},
    plan::{Plan, RunState, Totals},
};

use super::{
    replay::exit_of,
    status::{
        Event, NoticeEvent, ProcessStatus, RunEvent, RunStatus, StateStatus, TaskEvent, TaskStatus,
        signal_name, time,
    },
};

/// Runs that are listed per process; older ones are only counted.
const LISTED: usize = 100;
/// Notices that are listed.
const NOTICES: usize = 100;

/// The story of one task.
#[derive(Debug)]
pub struct History {
    task_id: String,
    name: String,
    user: String,
    sandbox: String,
    ports: BTreeMap<String, u32>,
    covered: bool,
    state: Option<&'static str>,
    states: Vec<(&'static str, u64, String)>,
    deadline: Option<u64>,
    processes: Vec<Story>,
    notices: VecDeque<NoticeEvent>,
    healthy: Option<bool>,
    checked: Option<Option<i32>>,
}

#[derive(Debug)]
struct Story {
    name: String,
    is_final: bool,
    ephemeral: bool,
    daemon: bool,
    totals: Totals,
    runs: VecDeque<Run>,
}

#[derive(Debug)]
struct Run {
    number: u32,
    pid: u32,
    forked_us: u64,
    started_us: u64,
    end: Option<(How, u64)>,
    /// Why a check found that it does not work.
    unhealthy: Option<Box<str>>,
}

impl History {
    /// Before anything happened.
    pub fn new(header: &Header, task: &Task) -> History {
        History {
            task_id: header.task_id.clone(),
            name: task.name.clone(),
            user: header.user.clone(),
            sandbox: header.sandbox.clone(),
            ports: header.ports.clone().into_iter().collect(),
            covered: true,
            state: None,
            states: Vec::new(),
            deadline: None,
            processes: task
                .processes
                .iter()
                .map(|process| Story {
                    name: process.name.clone(),
                    is_final: process.is_final,
                    ephemeral: process.ephemeral,
                    daemon: process.daemon,
                    totals: Totals::default(),
                    runs: VecDeque::new(),
                })
                .collect(),
            notices: VecDeque::new(),
            healthy: None,
            checked: None,
        }
    }

    /// Takes in one record; what followers should hear of it.
    pub fn apply(&mut self, record: &Record) -> Option<Event> {
        match record.kind.as_ref()? {
            Kind::Header(_) => None,
            Kind::Tenure(tenure) => {
                self.covered = tenure.cover() != Cover::Used;
                None
            }
            Kind::Start(start) => {
                let story = self.processes.get_mut(start.process as usize)?;
                if story.runs.len() == LISTED {
                    story.runs.pop_front();
                }
                if story.runs.is_empty() {
                    // Most processes run once.
                    story.runs.reserve_exact(1);
                }
                story.runs.push_back(Run {
                    number: start.run,
                    pid: start.pid,
                    forked_us: record.wall_us,
                    started_us: 0,
                    end: None,
                    unhealthy: None,
                });
                self.run_event(start.process, start.run)
            }
            Kind::Again(again) => {
                self.run(again.process, again.run)?.pid = again.pid;
                self.run_event(again.process, again.run)
            }
            Kind::Exec(exec) => {
                self.run(exec.process, exec.run)?.started_us = record.wall_us;
                self.run_event(exec.process, exec.run)
            }
            Kind::Health(health) => {
                let subject = health.process.filter(|_| !health.healthy);
                if let Some(process) = subject
                    && let Some(run) = self.run(process, health.run)
                {
                    run.unhealthy = Some(health.reason.as_str().into());
                }
                self.healthy = match health.process {
                    None => Some(health.healthy),
                    Some(_) => self.healthy,
                };
                let text = match health.healthy {
                    true => "healthy".to_owned(),
                    false => format!("unhealthy: {}", health.reason),
                };
                let run = health.process.map(|_| health.run);
                Some(self.notice(record.wall_us, text, health.process, run))
            }
            Kind::End(end) => {
                let how = end.how.clone()?;
                let run = self.run(end.process, end.run)?;
                run.end = Some((how, record.wall_us));
                let state = run.state();
                let story = self.processes.get_mut(end.process as usize)?;
                story.totals.add(state);
                self.run_event(end.process, end.run)
            }
            Kind::Stage(stage) => {
                let state = stage.state().known()?.name();
                self.state = Some(state);
                if stage.budget_us > 0 {
                    self.deadline = Some(record.wall_us + stage.budget_us);
                }
                if stage.state().known()?.is_terminal() {
                    self.deadline = None;
                }
                self.states
                    .push((state, record.wall_us, stage.reason.clone()));
                Some(Event::Task(TaskEvent {
                    task_id: self.task_id.clone(),
                    state: state.to_owned(),
                    at: time(record.wall_us),
                    reason: some(&stage.reason),
                    deadline: self.deadline.map(time),
                }))
            }
            Kind::Kill(_) => None,
            Kind::Checked(checked) => {
                self.checked = Some(checked.value);
                None
            }
            // An executor's own.
            Kind::Opened(_)
            | Kind::Closed(_)
            | Kind::Accepted(_)
            | Kind::Update(_)
            | Kind::Acknowledged(_)
            | Kind::Subscribed(_) => None,
            Kind::Notice(notice) => Some(self.notice(
                record.wall_us,
                notice.text.clone(),
                notice.process,
                notice.run,
            )),
            Kind::Snapshot(snapshot) => {
                for dropped in &snapshot.dropped {
                    if let Some(story) = self.processes.get_mut(dropped.process as usize) {
                        story.totals = Totals {
                            success: dropped.success,
                            failed: dropped.failed,
                            killed: dropped.killed,
                            lost: dropped.lost,
                        };
                    }
                }
                for kept in &snapshot.kept {
                    self.apply(kept);
                }
                None
            }
        }
    }

    fn notice(
        &mut self,
        wall_us: u64,
        text: String,
        process: Option<u32>,
        run: Option<u32>,
    ) -> Event {
        let event = NoticeEvent {
            at: time(wall_us),
            text,
            name: process.and_then(|process| self.name_of(process)),
            run,
        };
        if self.notices.len() == NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(event.clone());
        Event::Notice(event)
    }

    /// Whether the task as a whole was found to work; `None` before the first verdict.
    pub fn healthy(&self) -> Option<bool> {
        self.healthy
    }

    /// What the last report said: an exit code, a status, 1 or 0 for a connection, or that there is
    /// no result. `None` before the first.
    pub fn checked(&self) -> Option<Option<i32>> {
        self.checked
    }

    /// The task's id.
    pub fn task_id(&self) -> &str {
        &self.task_id
    }

    /// True when some process runs or ran.
    pub fn has_started(&self) -> bool {
        let mut runs = self.processes.iter().flat_map(|story| &story.runs);
        runs.any(|run| run.started_us > 0)
    }

    /// The task's state; `None` before ACTIVE is on disk.
    pub fn state(&self) -> Option<&'static str> {
        self.state
    }

    /// Everything, for programs. `journal` is the file's path, `pids` those of root, keeper and
    /// runner.
    pub fn status(&self, plan: &Plan, journal: &str, pids: [Option<u32>; 3]) -> TaskStatus {
        TaskStatus {
            task_id: self.task_id.clone(),
            name: self.name.clone(),
            state: self.state.unwrap_or("ACTIVE").to_owned(),
            user: self.user.clone(),
            sandbox: self.sandbox.clone(),
            journal: journal.to_owned(),
            root_pid: pids[0],
            keeper_pid: pids[1],
            runner_pid: pids[2],
            covered: self.covered,
            ports: self.ports.clone(),
            states: self
                .states
                .iter()
                .map(|(state, at, reason)| StateStatus {
                    state: (*state).to_owned(),
                    at: time(*at),
                    reason: some(reason),
                })
                .collect(),
            deadline: self.deadline.map(time),
            processes: (0..self.processes.len())
                .map(|process| self.process_status(process, plan))
                .collect(),
            notices: self.notices.iter().cloned().collect(),
        }
    }

    fn process_status(&self, process: usize, plan: &Plan) -> ProcessStatus {
        let story = &self.processes[process];
        let last = story.runs.back();
        let is_live = last.is_some_and(|run| run.end.is_none());
        let state = match last {
            Some(run) if is_live || !plan.may_start(process) => run.state().name(),
            _ => "WAITING",
        };
        let waiting_for = match state {
            "WAITING" => plan
                .waiting_for(process)
                .filter_map(|other| self.name_of(other as u32))
                .collect(),
            _ => Vec::new(),
        };
        ProcessStatus {
            name: story.name.clone(),
            is_final: story.is_final,
            ephemeral: story.ephemeral,
            daemon: story.daemon,
            state: state.to_owned(),
            waiting_for,
            totals: story.totals,
            runs: story.runs.iter().map(Run::status).collect(),
        }
    }

    fn run(&mut self, process: u32, run: u32) -> Option<&mut Run> {
        let story = self.processes.get_mut(process as usize)?;
        story
            .runs
            .iter_mut()
            .rev()
            .find(|other| other.number == run)
    }

    fn run_event(&mut self, process: u32, run: u32) -> Option<Event> {
        let name = self.name_of(process)?;
        let status = self.run(process, run)?.status();
        Some(Event::Run(RunEvent {
            task_id: self.task_id.clone(),
            name,
            run: status,
        }))
    }

    fn name_of(&self, process: u32) -> Option<String> {
        let story = self.processes.get(process as usize)?;
        Some(story.name.clone())
    }
}

impl Run {
    fn state(&self) -> RunState {
        match &self.end {
            Some(_) if self.unhealthy.is_some() => RunState::Failed,
            Some((how, _)) => exit_of(Some(how)).state(),
            None if self.started_us > 0 => RunState::Running,
            None => RunState::Forked,
        }
    }

    fn status(&self) -> RunStatus {
        let how = self.end.as_ref().map(|(how, _)| how);
        let exit_code = match how {
            Some(How::Exited(code)) => Some(*code as i32),
            Some(How::LaunchFailed(failure)) => match failure.exec_errno as i32 {
                libc::ENOENT => Some(127),
                libc::EACCES => Some(126),
                _ => None,
            },
            _ => None,
        };
        RunStatus {
            run: self.number,
            state: self.state().name().to_owned(),
            exit_code,
            signal: match how {
                Some(How::Signaled(signal)) => Some(signal_name(*signal)),
                _ => None,
            },
            reason: match how {
                _ if self.unhealthy.is_some() => {
                    let why = self.unhealthy.as_deref();
                    why.map(|why| format!("unhealthy: {why}"))
                }
                Some(How::LaunchFailed(failure)) => some(&failure.reason),
                Some(How::Lost(lost)) => some(&lost.reason),
                _ => None,
            },
            pid: (self.pid != 0).then_some(self.pid),
            forked_at: (self.forked_us > 0).then(|| time(self.forked_us)),
            started_at: (self.started_us > 0).then(|| time(self.started_us)),
            stopped_at: self.end.as_ref().map(|(_, at)| time(*at)),
        }
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
