//! When a task is lost: its agent is unreachable, or the master does not know it, for longer than
//! its job allows.
//!
//! The instance then goes on without it (the task is superseded). A superseded task of which no
//! news comes for a long time is forgotten.

use super::{
    core::SchedulerCore,
    state::{Kind, Task},
};
use crate::{
    mesos::protocol::messages::TaskState,
    protocols::dewar::scheduler::{Forgotten, Superseded},
};

impl SchedulerCore {
    /// Goes on without a task that is unreachable for too long; returns when that will be.
    pub(super) fn give_up_lost(&mut self, serial: u64, connected: u64) -> Option<u64> {
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
            return self.give_up_lost(serial, connected);
        }
        Some(at)
    }

    /// When an unreachable task is given up.
    fn lost_at(&self, task: &Task, connected: u64) -> Option<u64> {
        let policy = &self.state.version_of(task)?.config.partition;
        let job = self.state.jobs.get(&task.job)?;
        let wanted = job.instances.get(&task.instance)?.wanted;
        // When the instance is to run another version, or to go, the policy protects nothing.
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
        // After a subscription the task's state has a moment to arrive.
        Some((task.since + delay).max(connected + self.settings.ask_ms))
    }
}
