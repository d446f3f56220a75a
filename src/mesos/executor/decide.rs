//! What to do now: for each task, for groups, for the executor as a whole.

use prost::Message;

use super::{
    core::ExecutorCore,
    interface::{Action, TaskProgress, TaskView, UpdateText},
    task_entry::{Connection, TaskEntry, budget_of},
    terminal_update::check_status,
    updates::Update,
};
use crate::{
    journal::{self, Kind},
    mesos::protocol::messages::{
        AgentId, ExecutorId, TaskState, TaskStatus,
        task_status::{Reason, Source},
    },
    sys::clock::Moment,
};

/// An executor without a task ends after this time: its launch was lost. Microseconds.
const FIRST_TASK_US: u64 = 10_000_000;
/// An executor whose tasks are all done waits for so long for another one. Microseconds.
const LINGER_US: u64 = 1_000_000;
/// How long a first subscription may take without checkpointing. Microseconds.
const FIRST_CONTACT_US: u64 = 60_000_000;

impl ExecutorCore {
    /// A task could not be opened: it has failed, for the reason in `text`.
    pub fn open_failed(
        &mut self,
        task: u32,
        text: UpdateText,
        now: Moment,
        view: &mut dyn TaskView,
    ) {
        self.create_update(task, TaskState::TaskFailed, text, now, view);
    }

    /// What to do at `now`, and when to decide again if nothing happens before.
    pub fn decide(&mut self, now: Moment, view: &mut dyn TaskView) -> (Vec<Action>, Option<u64>) {
        let clock = now.boot_us;
        let mut actions = Vec::new();
        self.end_alone(clock);
        let numbers: Vec<u32> = self.tasks.keys().copied().collect();
        for task in numbers {
            self.advance_task(task, now, view, &mut actions);
        }
        self.end_groups();
        // Records come first: what is sent must have been recorded.
        let notes = std::mem::take(&mut self.notes);
        let noted = notes.into_iter().map(|kind| Action::Note(Box::new(kind)));
        actions.splice(0..0, noted);
        self.send_due(clock, &mut actions);
        if !self.left && actions.is_empty() && self.may_leave(clock) {
            self.left = true;
            actions.push(Action::Leave);
        }
        (actions, self.wake_at(clock))
    }

    /// Without an agent no update is acknowledged any more, and no task may be left running.
    fn end_alone(&mut self, clock: u64) {
        if let Some(at) = self.alone_until()
            && clock >= at
        {
            tracing::warn!("no agent came back in time: ending everything");
            self.end(clock + self.setting.grace_us, false);
        }
    }

    fn alone_until(&self) -> Option<u64> {
        let since = self.alone_since?;
        Some(match (self.setting.recovery_us, self.was_connected) {
            (Some(recovery), _) => since + recovery,
            (None, false) => since + FIRST_CONTACT_US,
            (None, true) => since,
        })
    }

    /// Decides the next step of one task.
    fn advance_task(
        &mut self,
        task: u32,
        now: Moment,
        view: &mut dyn TaskView,
        actions: &mut Vec<Action>,
    ) {
        let Some(entry) = self.tasks.get_mut(&task) else {
            return;
        };
        if entry.updates.is_empty() {
            self.create_update(
                task,
                TaskState::TaskStarting,
                UpdateText::default(),
                now,
                view,
            );
        }
        let Some(entry) = self.tasks.get_mut(&task) else {
            return;
        };
        match view.progress(task) {
            None if !entry.is_opened && !entry.is_terminal() => {
                if self.ending.is_some() || entry.kill.is_some() {
                    let text = UpdateText {
                        message: Some("killed before it began".to_owned()),
                        reason: Some(Reason::TaskKilledDuringLaunch),
                        ..UpdateText::default()
                    };
                    self.create_update(task, TaskState::TaskKilled, text, now, view);
                } else {
                    entry.is_opened = true;
                    actions.push(Action::Open(task));
                }
            }
            None => {}
            Some(progress) => {
                if progress.end.is_none()
                    && let Some(budget_us) = entry.kill.take()
                {
                    actions.push(Action::Kill { task, budget_us });
                }
                let is_terminal = entry.is_terminal();
                if progress.has_started && !is_terminal && !entry.has(TaskState::TaskRunning) {
                    let text = view.update_text(task, TaskState::TaskRunning);
                    self.create_update(task, TaskState::TaskRunning, text, now, view);
                }
                self.report_check(task, progress, now, view);
                if let (Some(end), false) = (progress.end, is_terminal) {
                    let text = view.update_text(task, end);
                    self.create_update(task, end, text, now, view);
                }
            }
        }
        let entry = self.tasks.get_mut(&task).filter(|entry| entry.is_done());
        if let Some(entry) = entry
            && !std::mem::replace(&mut entry.forgotten, true)
        {
            actions.push(Action::Forget(task));
        }
    }

    /// A new result of a check is an update of its own, once the task is RUNNING.
    fn report_check(
        &mut self,
        task: u32,
        progress: TaskProgress,
        now: Moment,
        view: &mut dyn TaskView,
    ) {
        let Some(entry) = self.tasks.get(&task) else {
            return;
        };
        let (Some(check), Some(value)) = (&entry.info.check, progress.checked) else {
            return;
        };
        let status = check_status(check, value);
        let last = entry.updates.last();
        let is_known = last.is_some_and(|last| last.status.check_status.as_ref() == Some(&status));
        if is_known || !entry.has(TaskState::TaskRunning) || entry.is_terminal() {
            return;
        }
        let text = UpdateText {
            reason: Some(Reason::TaskCheckStatusUpdated),
            ..view.update_text(task, TaskState::TaskRunning)
        };
        self.create_update(task, TaskState::TaskRunning, text, now, view);
    }

    /// A group lives and dies together: when a member ends, and not with FINISHED, the others are
    /// killed.
    fn end_groups(&mut self) {
        let has_failed =
            |entry: &TaskEntry| entry.is_terminal() && !entry.has(TaskState::TaskFinished);
        let all = self.tasks.values();
        let ended: Vec<u32> = all
            .filter(|entry| entry.group > 0 && has_failed(entry))
            .map(|entry| entry.group)
            .collect();
        for entry in self.tasks.values_mut() {
            if ended.contains(&entry.group) && !entry.is_terminal() && !entry.ended_with_group {
                entry.ended_with_group = true;
                entry.kill = Some(budget_of(entry.info.kill_policy.as_ref()));
            }
        }
    }

    fn create_update(
        &mut self,
        task: u32,
        state: TaskState,
        text: UpdateText,
        now: Moment,
        view: &mut dyn TaskView,
    ) {
        let Some(entry) = self.tasks.get_mut(&task) else {
            return;
        };
        if entry.is_terminal() {
            return;
        }
        let status = TaskStatus {
            task_id: entry.info.task_id.clone(),
            state: state.into(),
            data: text.data,
            message: text.message,
            agent_id: self.agent_id.clone().map(|value| AgentId { value }),
            timestamp: Some(now.wall_us as f64 / 1e6),
            executor_id: Some(ExecutorId {
                value: self.setting.executor_id.clone(),
            }),
            source: Some(Source::Executor.into()),
            reason: text.reason.map(Into::into),
            healthy: text.healthy,
            check_status: entry.info.check.as_ref().map(|check| {
                let progress = view.progress(task);
                check_status(
                    check,
                    progress.and_then(|progress| progress.checked).flatten(),
                )
            }),
            uuid: Some(view.uuid().to_vec()),
            ..TaskStatus::default()
        };
        let note = journal::Update {
            task,
            status: status.encode_to_vec(),
        };
        self.notes.push(Kind::Update(note));
        entry.updates.push(Update::new(status));
    }

    fn may_leave(&self, clock: u64) -> bool {
        let all_over = self.tasks.values().all(TaskEntry::is_terminal);
        let all_done = self.tasks.values().all(TaskEntry::is_done);
        match self.ending {
            Some(ending) if !ending.has_agent => all_over,
            Some(ending) => all_done || (all_over && clock >= ending.deadline),
            None => all_done && clock >= self.idle_until(),
        }
    }

    fn idle_until(&self) -> u64 {
        match self.tasks.is_empty() {
            true => self.idle_since + FIRST_TASK_US,
            false => self.idle_since + LINGER_US,
        }
    }

    fn wake_at(&self, clock: u64) -> Option<u64> {
        let retry = match self.connection {
            Connection::None { retry_at } if !self.is_giving_up() => Some(retry_at),
            _ => None,
        };
        let updates = self.tasks.values().filter_map(|entry| {
            let mut updates = entry.updates.iter();
            updates.find(|update| !update.is_acknowledged())?.due()
        });
        let updates = updates.filter(|_| self.connection == Connection::Open);
        let idle = self
            .tasks
            .values()
            .all(TaskEntry::is_done)
            .then(|| self.idle_until());
        let ending = self.ending.map(|ending| ending.deadline);
        let alone = self.alone_until().filter(|_| self.ending.is_none());
        retry
            .into_iter()
            .chain(updates)
            .chain(idle.filter(|_| self.ending.is_none()))
            .chain(ending)
            .chain(alone)
            .filter(|at| *at > clock)
            .min()
    }
}
