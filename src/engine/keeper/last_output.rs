//! The last output of a task: what its processes printed before they were gone is in its files when
//! the task is over, although the keeper leaves then.
//!
//! Nothing holds a task up for ever: a pipe that a process elsewhere still has is not waited for,
//! nor is a disk that takes nothing while everything is being killed.

use super::{keeper::Keeper, record_run_end::DRAIN_US, tasks::Wait};
use crate::{engine::ipc::Key, sys::clock::now};

/// How long a slow disk is waited for when everything was killed, microseconds.
const KILLED_US: u64 = 1_000_000;

impl Keeper {
    /// True while output of a task is on its way into its files. `is_gone`: no process of the task
    /// is left; only then this is waited for.
    pub(super) fn awaits_last_output(&mut self, task: u32, is_gone: bool) -> bool {
        let clock = now().boot_us;
        let open = self.outputs_of(task);
        let Some(kept) = self.tasks.get_mut(task) else {
            return false;
        };
        if !is_gone || !kept.awaiting_empty || open.is_empty() {
            kept.last_output = None;
            return false;
        }
        let wait = *kept.last_output.get_or_insert(Wait {
            since: clock,
            until: clock + DRAIN_US,
        });
        if clock < wait.until {
            return true;
        }
        let is_late = kept.killing_all && clock >= wait.since + KILLED_US;
        let behind: Vec<Key> = match &self.pump {
            Some(pump) => open
                .into_iter()
                .filter(|key| pump.is_behind(*key) && pump.holders(*key).is_empty())
                .collect(),
            None => Vec::new(),
        };
        let goes_on = !is_late && !behind.is_empty();
        if let Some(kept) = self.tasks.get_mut(task) {
            kept.last_output = goes_on.then_some(Wait {
                until: clock + DRAIN_US,
                ..wait
            });
        }
        if !goes_on {
            for key in behind {
                let text = "the end of its output is lost: the disk did not take it in time";
                self.notice(text.to_owned(), key);
            }
        }
        goes_on
    }

    /// The runs whose output is still read, or waits to be read on after a keeper's death.
    fn outputs_of(&self, task: u32) -> Vec<Key> {
        let pump = self.pump.iter();
        let mut open: Vec<Key> = pump.flat_map(|pump| pump.open_of(task)).collect();
        let held = self.shared.pipes.keys().map(|slot| slot.key);
        open.extend(held.filter(|key| key.task == task));
        open
    }

    /// What was waited for long enough, or has come, is looked at again.
    pub(super) fn look_at_last_output(&mut self, clock: u64) {
        self.children_changed |= self.tasks.last_output_due().is_some_and(|by| by <= clock);
    }
}
