//! What a decision has changed: jobs and instances to look at before it is over, and jobs to show
//! anew.

use std::{collections::BTreeSet, sync::Arc};

use super::state::{Key, Kind, State};

/// Marks, each taken once.
#[derive(Debug, Default)]
pub(super) struct Touched {
    jobs: BTreeSet<Key>,
    instances: BTreeSet<(Key, u32)>,
    /// Jobs that look different since they were last taken.
    changed: BTreeSet<Key>,
}

impl Touched {
    /// The job is to be looked at before this decision is over.
    pub(super) fn job(&mut self, key: &Key) {
        self.jobs.insert(Arc::clone(key));
    }

    /// The instance is to be looked at before this decision is over.
    pub(super) fn instance(&mut self, key: &Key, number: u32) {
        self.instances.insert((Arc::clone(key), number));
    }

    /// The job looks different.
    pub(super) fn changed(&mut self, key: &Key) {
        self.changed.insert(Arc::clone(key));
    }

    pub(super) fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    pub(super) fn take_job(&mut self) -> Option<Key> {
        self.jobs.pop_first()
    }

    pub(super) fn take_instance(&mut self) -> Option<(Key, u32)> {
        self.instances.pop_first()
    }

    pub(super) fn take_changed(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.changed)
    }

    /// Marks what a fact is about to change in this state.
    pub(super) fn by_fact(&mut self, kind: &Kind, state: &State) {
        let of_task = |serial: &u64| {
            let task = state.tasks.get(serial)?;
            Some((Arc::clone(&task.job), vec![task.instance]))
        };
        let touched = match kind {
            Kind::Version(version) => Some((version.job.as_str().into(), Vec::new())),
            Kind::Want(want) => Some((want.job.as_str().into(), want.instances.clone())),
            Kind::RemoveInstances(removal) => {
                Some((removal.job.as_str().into(), removal.instances.clone()))
            }
            Kind::Launched(launched) => {
                let known = state.jobs.get_key_value(launched.job.as_str());
                known.map(|(key, _)| (Arc::clone(key), vec![launched.instance]))
            }
            Kind::Status(status) => of_task(&status.serial),
            Kind::Superseded(superseded) => of_task(&superseded.serial),
            Kind::Forgotten(forgotten) => of_task(&forgotten.serial),
            Kind::Update(update) => Some((update.job.as_str().into(), Vec::new())),
            Kind::UpdateStep(step) => Some((step.job.as_str().into(), Vec::new())),
            Kind::UpdateState(state) => Some((state.job.as_str().into(), Vec::new())),
            Kind::KillRequested(requested) => {
                for serial in &requested.serials {
                    if let Some(task) = state.tasks.get(serial) {
                        self.changed(&task.job);
                    }
                }
                None
            }
            _ => None,
        };
        if let Some((key, instances)) = touched {
            for number in instances {
                self.instance(&key, number);
            }
            self.changed(&key);
            self.job(&key);
        }
    }
}
