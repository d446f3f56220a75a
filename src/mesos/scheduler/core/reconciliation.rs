//! Kills, questions and giving up: what is repeated about a task until the master answers.

use super::{
    core::SchedulerCore, decision::Call, retries::Retries, task_ids::task_id, timers::Timer,
};
use crate::mesos::protocol::messages::TaskState;

/// Tasks that one question names at most.
const ASKED_AT_ONCE: usize = 5_000;

impl SchedulerCore {
    /// Does what is due about a task, and sets a timer for the next step.
    pub(super) fn advance_task(&mut self, serial: u64) {
        let Some(task) = self.state.tasks.get(&serial) else {
            self.retries.remove(&serial);
            return;
        };
        let Some(connected) = self.connected else {
            return;
        };
        let is_lost = !task.is_reachable();
        let is_quiet = task.silent || task.state == TaskState::TaskUnknown;
        let (kill_requested, launched_at) = (task.kill_requested, task.launched_at);
        let mut retries = self.retries.get(&serial).copied().unwrap_or_default();
        let mut due = Vec::new();
        if kill_requested && !is_lost {
            if retries.next_kill <= self.now {
                let call = Call::Kill {
                    task: task_id(serial, task),
                    agent: Some(task.agent.to_string()),
                };
                retries.next_kill = self.now + self.pause(self.settings.kill_ms, retries.kills);
                retries.kills += 1;
                self.out.calls.push(call);
            }
            due.push(retries.next_kill);
        }
        if is_quiet || retries.is_unconfirmed {
            let first = launched_at + self.settings.ask_ms;
            if !retries.is_unconfirmed && retries.asks == 0 && first > self.now {
                retries.next_ask = first;
            } else if retries.next_ask <= self.now {
                retries.next_ask = self.now + self.pause(self.settings.ask_ms, retries.asks);
                retries.asks += 1;
                self.questions.push(serial);
            }
            due.push(retries.next_ask);
        }
        if due.is_empty() {
            self.retries.remove(&serial);
        } else {
            self.retries.insert(serial, retries);
        }
        if is_lost {
            due.extend(self.give_up_lost(serial, connected));
        }
        if let Some(at) = due.into_iter().min() {
            self.timers.set(at, Timer::Task(serial));
        }
    }

    /// A pause that doubles with every repetition, up to the longest.
    fn pause(&self, first: u64, times: u32) -> u64 {
        (first << times.min(20)).min(self.settings.longest_ms)
    }

    /// Asks for the states of all tasks: of the known ones by name, and of unknown ones by a
    /// question that names none.
    pub(super) fn reconcile(&mut self) {
        if self.connected.is_none() {
            return;
        }
        let serials: Vec<u64> = self.state.tasks.keys().copied().collect();
        for serial in serials {
            let retries = self.retries.entry(serial).or_default();
            *retries = Retries {
                is_unconfirmed: true,
                ..Retries::default()
            };
            self.advance_task(serial);
        }
        self.send_questions();
        self.out.calls.push(Call::Reconcile(Vec::new()));
        self.reconcile_at = self.now + self.settings.reconcile_ms;
        self.timers.set(self.reconcile_at, Timer::Reconcile);
    }

    /// Sends the questions that came up in this decision.
    pub(super) fn send_questions(&mut self) {
        let questions = std::mem::take(&mut self.questions);
        for some in questions.chunks(ASKED_AT_ONCE) {
            let named = some.iter().filter_map(|serial| {
                let task = self.state.tasks.get(serial)?;
                Some((task_id(*serial, task), task.agent.to_string()))
            });
            let call = Call::Reconcile(named.collect());
            self.out.calls.push(call);
        }
    }

    /// A state of the task came: questions start anew, unless the state is that the master does not
    /// know the task. Returns true for the first state since the subscription.
    pub(super) fn confirm(&mut self, serial: u64, state: TaskState) -> bool {
        let Some(retries) = self.retries.get_mut(&serial) else {
            return false;
        };
        if state != TaskState::TaskUnknown {
            (retries.asks, retries.next_ask) = (0, 0);
        }
        std::mem::take(&mut retries.is_unconfirmed)
    }

    /// True when no state of the task came since the last subscription.
    pub(super) fn is_unconfirmed(&self, serial: u64) -> bool {
        let retries = self.retries.get(&serial);
        retries.is_some_and(|retries| retries.is_unconfirmed)
    }
}
