//! How many tasks an executor takes, and where their files are.

use crate::{journal::Executor, task::Level};

/// What all tasks of an executor may use and see.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// `None`: what each task says.
    pub isolation: Option<Level>,
    /// Each task is held to its resources.
    pub enforce_task: bool,
}

impl Bounds {
    /// As the executor's journal has them.
    pub(super) fn of(executor: &Executor) -> Bounds {
        Bounds {
            isolation: executor.isolation.parse().ok(),
            enforce_task: executor.enforce_task,
        }
    }
}

/// Where in the container's sandbox the executor keeps its own files.
pub(super) const DIRECTORY: &str = ".dewar";
