//! What an executor imposes on all of its tasks, and where it keeps its own files.

use crate::{
    journal::{Executor, Feature, Need},
    task::Level,
};

/// What all tasks of an executor may use and see, whatever they say themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// The level of isolation; `None`: as each task says.
    pub isolation: Option<Level>,
    /// True when each task is limited to its resources.
    pub enforce_task: bool,
}

impl Bounds {
    /// Reads them from the header of the executor's journal.
    pub(super) fn of(executor: &Executor) -> Bounds {
        Bounds {
            isolation: executor.isolation.parse().ok(),
            enforce_task: executor.enforce_task,
        }
    }

    /// What a runner must understand so that no task of the executor escapes them.
    pub(super) fn needs(self) -> Vec<Need> {
        let is_private = self.isolation == Some(Level::Private);
        let all = [
            (Feature::TaskLimits, self.enforce_task),
            (Feature::Private, is_private),
        ];
        let needed = all.into_iter().filter(|(_, is_needed)| *is_needed);
        needed.map(|(feature, _)| feature.need()).collect()
    }
}

/// The directory of the executor's own files, within the container's sandbox.
pub(super) const DIRECTORY: &str = ".dewar";
