//! A task as its follower knows it: a status, and the events that change it. Pure.
//!
//! After a conversation broke, what happened meanwhile is the difference of two statuses. So no
//! event is told twice, and no end of a run is missed.

use crate::engine::{
    history::{
        Event, ProcessState, ProcessStatus, RunEvent, RunStatus, StateStatus, TaskEvent,
        TaskStatus, WallTime,
    },
    plan::{RunState, TaskState},
};

/// A status that is kept up to date; statuses and events go in, what is new comes out.
#[derive(Debug)]
pub(crate) struct Watched {
    pub status: TaskStatus,
}

impl Watched {
    /// Begins with `status`; everything in it is new.
    pub fn begin(status: TaskStatus) -> (Watched, Vec<Event>) {
        let mut before = status.clone();
        before.states.clear();
        before.notices.clear();
        for process in &mut before.processes {
            process.runs.clear();
        }
        let news = difference(&before, &status);
        (Watched { status }, news)
    }

    /// Takes in the status with which another conversation begins; returns what is new in it.
    pub fn again(&mut self, status: TaskStatus) -> Vec<Event> {
        let news = difference(&self.status, &status);
        self.status = status;
        news
    }

    /// Takes in one event; false when it changes nothing.
    pub fn take(&mut self, event: &Event) -> bool {
        match event {
            Event::Task(task) => {
                self.status.state = task.state;
                self.status.deadline = task.deadline;
                if !matches!(task.state, TaskState::Active | TaskState::Finalizing) {
                    // No process waits for another run any more.
                    let processes = self.status.processes.iter_mut();
                    processes.for_each(|process| process.next_start_at = None);
                }
                self.status.states.push(StateStatus {
                    state: task.state,
                    at: task.at,
                    reason: task.reason.clone(),
                });
                self.skip(task.skipped.as_deref());
                true
            }
            Event::Run(run) => {
                self.skip(run.skipped.as_deref());
                let mut processes = self.status.processes.iter_mut();
                match processes.find(|process| process.name == run.name) {
                    Some(process) => {
                        process.next_start_at = run.next_start_at;
                        update(process, &run.run)
                    }
                    None => false,
                }
            }
            Event::Notice(notice) => {
                push(&mut self.status.notices, notice.clone());
                true
            }
            Event::Status(_) | Event::Refused { .. } => false,
        }
    }

    /// Takes in which processes are skipped, if that is told.
    fn skip(&mut self, names: Option<&[String]>) {
        let Some(names) = names else { return };
        for process in &mut self.status.processes {
            process.skipped = names.contains(&process.name);
        }
    }

    /// Names of the processes that `process` waits for and that have not succeeded.
    pub fn waits_for<'w>(&'w self, process: &'w ProcessStatus) -> Vec<&'w str> {
        let finished = |name: &&String| {
            let mut processes = self.status.processes.iter();
            processes.any(|other| other.name == **name && other.state == ProcessState::Success)
        };
        let names = process.waiting_for.iter();
        names
            .filter(|name| !finished(name))
            .map(String::as_str)
            .collect()
    }

    /// Processes that are alive, with their pids.
    pub fn alive(&self) -> Vec<(&str, u32)> {
        let processes = self.status.processes.iter();
        processes
            .filter_map(|process| {
                let run = process.runs.last()?;
                let pid = run.pid.filter(|_| run.stopped_at.is_none())?;
                Some((process.name.as_str(), pid))
            })
            .collect()
    }
}

/// Adds to a list that is as long as in a status, at most: a client that follows for weeks must not
/// grow.
fn push<T>(list: &mut Vec<T>, item: T) {
    const LISTED: usize = 100;
    if list.len() >= LISTED {
        list.drain(..=list.len() - LISTED);
    }
    list.push(item);
}

fn update(process: &mut ProcessStatus, run: &RunStatus) -> bool {
    let is_new = match process
        .runs
        .iter_mut()
        .rev()
        .find(|other| other.run == run.run)
    {
        Some(known) if known == run => false,
        Some(known) => {
            *known = run.clone();
            true
        }
        None => {
            push(&mut process.runs, run.clone());
            true
        }
    };
    process.state = run.state.into();
    is_new
}

fn difference(before: &TaskStatus, after: &TaskStatus) -> Vec<Event> {
    let mut news = Vec::new();
    for state in after.states.iter().skip(before.states.len()) {
        news.push(Event::Task(TaskEvent {
            task_id: after.task_id.clone(),
            state: state.state,
            at: state.at,
            reason: state.reason.clone(),
            deadline: after.deadline.filter(|_| state.state == after.state),
            skipped: None,
        }));
    }
    for (old, new) in before.processes.iter().zip(&after.processes) {
        for run in new.runs.iter().filter(|run| !old.runs.contains(run)) {
            let mut known = old.runs.iter().filter(|known| known.run == run.run);
            let has_begun = known.any(|known| known.started_at.is_some());
            let beginning = beginning(run).filter(|_| !has_begun);
            let steps = beginning.into_iter().chain([run.clone()]);
            news.extend(steps.map(|step| {
                Event::Run(RunEvent {
                    task_id: after.task_id.clone(),
                    name: new.name.clone(),
                    next_start_at: next_start_of(new, &step),
                    run: step,
                    skipped: None,
                })
            }));
        }
    }
    let notices = after.notices.iter();
    let notices = notices.filter(|notice| !before.notices.contains(notice));
    news.extend(notices.cloned().map(Event::Notice));
    news.sort_by_key(|event| (time_of(event), rank(event)));
    news
}

/// What was to be told of a run when it became its program, if it has ended since: what is noted of
/// it in between has its place after that.
fn beginning(run: &RunStatus) -> Option<RunStatus> {
    (run.stopped_at.is_some() && run.started_at.is_some()).then(|| RunStatus {
        run: run.run,
        state: RunState::Running,
        exit_code: None,
        signal: None,
        stopped: false,
        reason: None,
        pid: run.pid,
        forked_at: run.forked_at,
        started_at: run.started_at,
        healthy_at: None,
        stopped_at: None,
        cgroup: run.cgroup.clone(),
        usage: None,
    })
}

/// When the next run starts; it is told with the last run of a process.
fn next_start_of(process: &ProcessStatus, run: &RunStatus) -> Option<WallTime> {
    let is_last = process.runs.last() == Some(run);
    process.next_start_at.filter(|_| is_last)
}

/// The order within a millisecond: a task begins before its runs and ends after them, and what is
/// noted of a run comes between its beginning and its end.
fn rank(event: &Event) -> u8 {
    match event {
        Event::Task(task) if task.state == TaskState::Active => 0,
        Event::Run(run) if run.run.stopped_at.is_none() => 1,
        Event::Notice(_) => 2,
        Event::Run(_) => 3,
        Event::Task(_) | Event::Status(_) | Event::Refused { .. } => 4,
    }
}

fn time_of(event: &Event) -> Option<WallTime> {
    match event {
        Event::Task(task) => Some(task.at),
        Event::Run(run) => run.run.stopped_at.or(run.run.began_at()),
        Event::Notice(notice) => Some(notice.at),
        Event::Status(_) | Event::Refused { .. } => None,
    }
}
