//! The history of one task, from its records alone.
//!
//! Pure: records in (`apply.rs`), a status for programs out. The history knows only records that
//! are on disk, so a client is never told what a crash could take back.

use std::collections::{BTreeMap, VecDeque};

use super::{
    run::{Run, not_empty},
    status::{NoticeEvent, ProcessState, ProcessStatus, StateStatus, TaskStatus},
    wall_time::WallTime,
};
use crate::{
    engine::plan::{Plan, Situation, TaskState, Totals},
    journal::{Header, How},
    sys::clock::Moment,
    task::{StopSignal, Task},
};

/// Runs that are listed per process; older ones are only counted.
pub(super) const LISTED: usize = 100;
/// Notices that are listed.
pub(super) const NOTICES: usize = 100;

/// The history of one task.
#[derive(Debug)]
pub struct History {
    pub(super) task_id: String,
    name: String,
    user: String,
    sandbox: String,
    ports: BTreeMap<String, u32>,
    pub(super) covered: bool,
    pub(super) state: Option<TaskState>,
    pub(super) states: Vec<Entry>,
    /// When everything that runs is killed, microseconds since 1970, while the task stops.
    pub(super) deadline: Option<u64>,
    /// The same for final processes, which run when nothing else does any more.
    pub(super) final_deadline: Option<u64>,
    pub(super) processes: Vec<ProcessHistory>,
    pub(super) notices: VecDeque<NoticeEvent>,
    pub(super) healthy: Option<bool>,
    pub(super) checked: Option<Option<i32>>,
    pub(super) groups: Vec<String>,
}

/// A state that the task entered, at this many microseconds since 1970.
#[derive(Debug)]
pub(super) struct Entry {
    pub state: TaskState,
    pub wall_us: u64,
    pub reason: String,
}

/// The history of one process.
#[derive(Debug)]
pub(super) struct ProcessHistory {
    pub name: String,
    is_final: bool,
    ephemeral: bool,
    daemon: bool,
    /// The signal that asks it to stop, by its number.
    stop_signal: u32,
    pub totals: Totals,
    pub runs: VecDeque<Run>,
}

impl History {
    /// The history of a task before its first record.
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
            final_deadline: None,
            processes: task
                .processes
                .iter()
                .map(|process| ProcessHistory {
                    name: process.name.clone(),
                    is_final: process.is_final,
                    ephemeral: process.ephemeral,
                    daemon: process.daemon,
                    stop_signal: process.stop_signal.unwrap_or(StopSignal::TERM).number(),
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

    /// The last verdict about the task as a whole; `None` before the first one.
    pub fn healthy(&self) -> Option<bool> {
        self.healthy
    }

    /// The value of the last report of `check`: an exit code, a status, 1 or 0 for a connection, or
    /// that there is no result. `None` before the first report.
    pub fn checked(&self) -> Option<Option<i32>> {
        self.checked
    }

    /// The id of the task.
    pub fn task_id(&self) -> &str {
        &self.task_id
    }

    /// True when a process runs or ran.
    pub fn has_started(&self) -> bool {
        let mut runs = self.processes.iter().flat_map(|process| &process.runs);
        runs.any(|run| run.started_us > 0)
    }

    /// The task's state; `None` before ACTIVE is on disk.
    pub fn state(&self) -> Option<TaskState> {
        self.state
    }

    /// Everything, for programs. `journal` is the file's path, `pids` those of root, keeper and
    /// runner; a pause's end is told on the wall clock as it stands at `now`.
    pub fn status(
        &self,
        plan: &Plan,
        journal: &str,
        pids: [Option<u32>; 3],
        now: Moment,
    ) -> TaskStatus {
        let skipped = plan.skipped().into_iter().enumerate();
        TaskStatus {
            task_id: self.task_id.clone(),
            name: self.name.clone(),
            state: self.state.unwrap_or(TaskState::Active),
            user: self.user.clone(),
            sandbox: self.sandbox.clone(),
            journal: journal.to_owned(),
            root_pid: pids[0],
            keeper_pid: pids[1],
            runner_pid: pids[2],
            covered: self.covered,
            ports: self.ports.clone(),
            states: self.states.iter().map(Entry::status).collect(),
            deadline: self.deadline.map(WallTime::from_micros),
            cgroups: self.groups.clone(),
            processes: skipped
                .map(|(process, is_skipped)| self.process_status(process, is_skipped, plan, now))
                .collect(),
            notices: self.notices.iter().cloned().collect(),
        }
    }

    /// The names of the processes that never run.
    pub fn skipped(&self, plan: &Plan) -> Vec<String> {
        let all = self.processes.iter().zip(plan.skipped());
        all.filter(|(_, is_skipped)| *is_skipped)
            .map(|(process, _)| process.name.clone())
            .collect()
    }

    fn process_status(
        &self,
        process: usize,
        is_skipped: bool,
        plan: &Plan,
        now: Moment,
    ) -> ProcessStatus {
        let history = &self.processes[process];
        let last = history.runs.back();
        let is_live = last.is_some_and(|run| run.end.is_none());
        let state = match last {
            Some(run) if is_live || !plan.may_start(process) => run.state().into(),
            _ => ProcessState::Waiting,
        };
        let is_waiting = state == ProcessState::Waiting;
        let next_start_at = match is_waiting {
            true => next_start_at(plan, process, now),
            false => None,
        };
        let waiting_for = match is_waiting {
            true => plan
                .waiting_for(process)
                .filter_map(|other| self.name_of(other as u32))
                .collect(),
            false => Vec::new(),
        };
        ProcessStatus {
            name: history.name.clone(),
            is_final: history.is_final,
            ephemeral: history.ephemeral,
            daemon: history.daemon,
            state,
            skipped: is_waiting && is_skipped,
            waiting_for,
            next_start_at,
            totals: history.totals,
            runs: history.runs.iter().map(Run::status).collect(),
        }
    }

    /// This run, if it is still listed.
    pub(super) fn run(&mut self, process: u32, run: u32) -> Option<&mut Run> {
        let history = self.processes.get_mut(process as usize)?;
        let mut newest_first = history.runs.iter_mut().rev();
        newest_first.find(|other| other.number == run)
    }

    pub(super) fn name_of(&self, process: u32) -> Option<String> {
        let history = self.processes.get(process as usize)?;
        Some(history.name.clone())
    }
}

impl ProcessHistory {
    /// True for an end that says that the process did what the task asks of it from CLEANING on.
    /// The stop signal goes to all of its tree: a shell ends with 128 and the number of the signal
    /// that ended its child.
    pub fn did_stop(&self, state: Option<TaskState>, how: &How) -> bool {
        let is_asked = matches!(state, Some(TaskState::Cleaning)) && !self.is_final;
        let codes = [self.stop_signal, libc::SIGKILL as u32].map(|signal| 128 + signal);
        is_asked && matches!(how, How::Exited(code) if codes.contains(code))
    }
}

impl Entry {
    fn status(&self) -> StateStatus {
        StateStatus {
            state: self.state,
            at: WallTime::from_micros(self.wall_us),
            reason: not_empty(&self.reason),
        }
    }
}

/// When a process that pauses starts again, on the wall clock as it stands at `now`.
pub(crate) fn next_start_at(plan: &Plan, process: usize, now: Moment) -> Option<WallTime> {
    let Situation::Pausing { until, .. } = plan.situation(process) else {
        return None;
    };
    plan.may_start(process)
        .then(|| WallTime::of_boot_time(until, now))
}
