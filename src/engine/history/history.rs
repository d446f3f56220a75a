//! What happened, from the records alone, in the form that people and programs are shown.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    past::{exit_of, past_of},
    status::{
        Event, NoticeEvent, NoticeKind, ProcessStatus, RunEvent, RunStatus, StateStatus, TaskEvent,
        TaskStatus, signal_name, time,
    },
    usage_status::out_of_memory,
};
use crate::{
    engine::plan::{Plan, RunState, Standing, Totals},
    journal::{Cover, Header, How, Kind, Record, Usage},
    sys::clock::now,
    task::{Period, Task},
};

/// Runs that are listed per process; older ones are only counted.
pub(super) const LISTED: usize = 100;
/// Notices that are listed.
pub(super) const NOTICES: usize = 100;

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
    groups: Vec<String>,
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
    healthy_us: u64,
    end: Option<(How, u64)>,
    group: Option<Box<str>>,
    /// Of one that is over.
    usage: Option<Box<Usage>>,
    out_of_memory: bool,
    /// What it counts as whatever ended it, and why: somebody else decided that it has to end.
    sentence: Option<(RunState, Box<str>)>,
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
            groups: Vec::new(),
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
                    healthy_us: 0,
                    end: None,
                    group: (!start.group.is_empty()).then(|| start.group.as_str().into()),
                    usage: None,
                    out_of_memory: false,
                    sentence: None,
                });
                self.run_event(start.process, start.run)
            }
            Kind::Again(again) => {
                let run = self.run(again.process, again.run)?;
                run.pid = again.pid;
                run.group = (!again.group.is_empty()).then(|| again.group.as_str().into());
                self.run_event(again.process, again.run)
            }
            Kind::Exec(exec) => {
                self.run(exec.process, exec.run)?.started_us = record.wall_us;
                self.run_event(exec.process, exec.run)
            }
            Kind::Health(health) => {
                if let Some(process) = health.process
                    && let Some(run) = self.run(process, health.run)
                {
                    match health.healthy {
                        true if run.healthy_us > 0 => {}
                        true => run.healthy_us = record.wall_us,
                        false => {
                            run.condemn(RunState::Failed, format!("unhealthy: {}", health.reason));
                        }
                    }
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
            Kind::TimedOut(late) => {
                let after = Period::new(Duration::from_micros(late.after_us));
                let text = format!("timed out after {}", after.unwrap_or_default());
                // Its end tells it.
                self.run(late.process, late.run)?
                    .condemn(RunState::Failed, text);
                None
            }
            Kind::Restart(restart) => {
                let story = self.processes.get_mut(restart.process as usize)?;
                let live = story.runs.back_mut().filter(|run| run.end.is_none());
                let run = live.map(|run| {
                    // Whatever was found before: somebody wants it anew.
                    run.sentence = None;
                    run.condemn(RunState::Killed, "restarted".to_owned());
                    run.number
                });
                let text = "restart requested".to_owned();
                let mut event = self.notice(record.wall_us, text, Some(restart.process), run);
                self.mark(&mut event, NoticeKind::Restart);
                Some(event)
            }
            Kind::Signal(signal) => {
                let text = format!("{} requested", signal_name(signal.signal));
                let run = Some(signal.run);
                let mut event = self.notice(record.wall_us, text, Some(signal.process), run);
                self.mark(&mut event, NoticeKind::Signal);
                Some(event)
            }
            Kind::End(end) => {
                let how = end.how.clone()?;
                let run = self.run(end.process, end.run)?;
                run.end = Some((how, record.wall_us));
                run.usage = end.usage.map(Box::new);
                run.out_of_memory = end.out_of_memory;
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
            Kind::Groups(groups) => {
                self.groups.clone_from(&groups.directories);
                None
            }
            // The stage that follows says it.
            Kind::Kill(_) | Kind::Init(_) | Kind::Exceeded(_) => None,
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
            | Kind::Subscribed(_)
            | Kind::Fact(_) => None,
            Kind::Notice(notice) => Some(self.notice(
                record.wall_us,
                notice.text.clone(),
                notice.process,
                notice.run,
            )),
            Kind::Snapshot(snapshot) => {
                for dropped in &snapshot.dropped {
                    if let Some(story) = self.processes.get_mut(dropped.process as usize) {
                        story.totals = past_of(dropped).totals;
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
            kind: None,
        };
        if self.notices.len() == NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(event.clone());
        Event::Notice(event)
    }

    /// Says what the last notice is about, to programs.
    fn mark(&mut self, event: &mut Event, kind: NoticeKind) {
        if let (Event::Notice(notice), Some(last)) = (event, self.notices.back_mut()) {
            notice.kind = Some(kind);
            last.kind = Some(kind);
        }
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
            cgroups: self.groups.clone(),
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
        let next_start_at = match state {
            "WAITING" => next_start_at(plan, process),
            _ => None,
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
            next_start_at,
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
            next_start_at: None,
        }))
    }

    fn name_of(&self, process: u32) -> Option<String> {
        let story = self.processes.get(process as usize)?;
        Some(story.name.clone())
    }
}

impl Run {
    /// A run that lives has to end; the first reason counts. One that has ended is what it is.
    fn condemn(&mut self, state: RunState, why: String) {
        if self.end.is_none() {
            self.sentence.get_or_insert((state, why.into()));
        }
    }

    fn state(&self) -> RunState {
        match &self.end {
            Some((how, _)) => match &self.sentence {
                Some((state, _)) => *state,
                None => exit_of(Some(how), self.out_of_memory).state(),
            },
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
                _ if self.sentence.is_some() => {
                    let sentence = self.sentence.as_ref();
                    sentence.map(|(_, why)| why.to_string())
                }
                Some(How::LaunchFailed(failure)) => some(&failure.reason),
                Some(How::Lost(lost)) => some(&lost.reason),
                Some(_) if self.out_of_memory => self.usage.as_deref().map(out_of_memory),
                _ => None,
            },
            pid: (self.pid != 0).then_some(self.pid),
            forked_at: (self.forked_us > 0).then(|| time(self.forked_us)),
            started_at: (self.started_us > 0).then(|| time(self.started_us)),
            healthy_at: (self.healthy_us > 0).then(|| time(self.healthy_us)),
            stopped_at: self.end.as_ref().map(|(_, at)| time(*at)),
            cgroup: self.group.as_ref().map(|name| name.to_string()),
            usage: self.usage.as_deref().map(|usage| Box::new(usage.into())),
        }
    }
}

/// When a process that pauses starts again.
pub(crate) fn next_start_at(plan: &Plan, process: usize) -> Option<String> {
    let Standing::Pausing { until, .. } = plan.standing(process) else {
        return None;
    };
    plan.may_start(process).then(|| time(wall_time(until)))
}

/// A moment of CLOCK_BOOTTIME on the clock that people read, as the two stand to each other now.
pub fn wall_time(boot_us: u64) -> u64 {
    let now = now();
    now.wall_us
        .saturating_add(boot_us)
        .saturating_sub(now.boot_us)
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
