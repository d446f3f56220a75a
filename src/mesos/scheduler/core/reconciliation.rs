//! What has to be done about tasks again and again until there is an answer: killing, asking, giving up.

use super::{
    core::{Core, Timer, task_id},
    decision::Call,
    retries::Chore,
    state::{Kind, Task},
};
use crate::{
    mesos::protocol::messages::TaskState,
    protocols::dewar::scheduler::{Forgotten, Superseded},
};

/// Tasks of one question.
const ASKED_AT_ONCE: usize = 5_000;

impl Core {
    /// Does what is due about a task, and sets a timer for what will be.
    pub(super) fn consider_task(&mut self, serial: u64) {
        let Some(task) = self.state.tasks.get(&serial) else {
            self.chores.remove(&serial);
            return;
        };
        let Some(connected) = self.connected else {
            return;
        };
        let is_lost = !task.is_reachable();
        let is_quiet = task.silent || task.state == TaskState::TaskUnknown;
        let (is_doomed, launched_at) = (task.doomed, task.launched_at);
        let mut chore = self.chores.get(&serial).copied().unwrap_or_default();
        let mut due = Vec::new();
        if is_doomed && !is_lost {
            if chore.next_kill <= self.now {
                let call = Call::Kill {
                    task: task_id(serial, task),
                    agent: Some(task.agent.to_string()),
                };
                chore.next_kill = self.now + self.pause(self.settings.kill_ms, chore.kills);
                chore.kills += 1;
                self.out.calls.push(call);
            }
            due.push(chore.next_kill);
        }
        if is_quiet || chore.is_unconfirmed {
            let first = launched_at + self.settings.ask_ms;
            if !chore.is_unconfirmed && chore.asks == 0 && first > self.now {
                chore.next_ask = first;
            } else if chore.next_ask <= self.now {
                chore.next_ask = self.now + self.pause(self.settings.ask_ms, chore.asks);
                chore.asks += 1;
                self.asks.push(serial);
            }
            due.push(chore.next_ask);
        }
        if due.is_empty() {
            self.chores.remove(&serial);
        } else {
            self.chores.insert(serial, chore);
        }
        if is_lost {
            due.extend(self.consider_lost(serial, connected));
        }
        if let Some(at) = due.into_iter().min() {
            self.at(at, Timer::Task(serial));
        }
    }

    /// Goes on without a task that nobody hears of; returns when that will be.
    fn consider_lost(&mut self, serial: u64, connected: u64) -> Option<u64> {
        let task = self.state.tasks.get(&serial)?;
        if task.superseded {
            let at = task.since + self.settings.forget_ms;
            if at <= self.now {
                self.fact(Kind::Forgotten(Forgotten { serial }));
                return None;
            }
            return Some(at);
        }
        let at = self.lost_at(task, connected)?;
        if at <= self.now {
            self.fact(Kind::Superseded(Superseded { serial }));
            return self.consider_lost(serial, connected);
        }
        Some(at)
    }

    /// When an unreachable task is given up.
    fn lost_at(&self, task: &Task, connected: u64) -> Option<u64> {
        let policy = &self.state.version_of(task)?.config.partition;
        let job = self.state.jobs.get(&task.job)?;
        let wanted = job.instances.get(&task.instance)?.wanted;
        // Somebody wants another version of it, or none: then the policy protects nothing.
        let is_wanted = wanted == Some(task.version);
        if is_wanted && !policy.reschedule {
            return None;
        }
        let mut delay = match wanted {
            Some(_) => policy.delay.as_micros() / 1000,
            None => 0,
        };
        if task.state == TaskState::TaskUnknown {
            delay = delay.max(self.settings.unknown_ms);
        }
        // While we were away it may have come back: its news has a moment to arrive.
        Some((task.since + delay).max(connected + self.settings.ask_ms))
    }

    /// A pause that doubles.
    fn pause(&self, first: u64, times: u32) -> u64 {
        (first << times.min(20)).min(self.settings.longest_ms)
    }

    /// Asks for everything: what we know of by name, what we do not know of by asking for all.
    pub(super) fn reconcile(&mut self) {
        if self.connected.is_none() {
            return;
        }
        let serials: Vec<u64> = self.state.tasks.keys().copied().collect();
        for serial in serials {
            let chore = self.chores.entry(serial).or_default();
            *chore = Chore {
                is_unconfirmed: true,
                ..Chore::default()
            };
            self.consider_task(serial);
        }
        self.ask();
        self.out.calls.push(Call::Reconcile(Vec::new()));
        self.reconcile_at = self.now + self.settings.reconcile_ms;
        self.at(self.reconcile_at, Timer::Reconcile);
    }

    /// Sends the questions that came up.
    pub(super) fn ask(&mut self) {
        let asks = std::mem::take(&mut self.asks);
        for some in asks.chunks(ASKED_AT_ONCE) {
            let named = some.iter().filter_map(|serial| {
                let task = self.state.tasks.get(serial)?;
                Some((task_id(*serial, task), task.agent.to_string()))
            });
            let call = Call::Reconcile(named.collect());
            self.out.calls.push(call);
        }
    }

    /// Something was heard of a task: questions about it begin anew, unless the answer was that nobody knows.
    /// True when it is the first word since the subscription.
    pub(super) fn confirm(&mut self, serial: u64, state: TaskState) -> bool {
        let Some(chore) = self.chores.get_mut(&serial) else {
            return false;
        };
        if state != TaskState::TaskUnknown {
            (chore.asks, chore.next_ask) = (0, 0);
        }
        std::mem::take(&mut chore.is_unconfirmed)
    }

    /// True when nothing was heard of the task since the last subscription.
    pub(super) fn is_unconfirmed(&self, serial: u64) -> bool {
        let chore = self.chores.get(&serial);
        chore.is_some_and(|chore| chore.is_unconfirmed)
    }
}
