//! What this machine can enforce for this user, and by which mechanism.

use super::{
    controllers::{Controller, Version},
    hierarchies::Hierarchies,
    limits::{LimitError, Limits},
    rlimits::{RlimitError, check_rlimits},
};
use crate::task::{Resources, Task};

/// What a limit is enforced by, or why it cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// This mechanism enforces it.
    By(String),
    /// It cannot be enforced, because this is missing.
    Missing(String),
}

/// One line of what this machine can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name of the limit in task files.
    pub what: &'static str,
    /// What enforces it here.
    pub mechanism: Mechanism,
}

/// Why `gpu` of a task or process is refused.
pub const NO_GPU: &str = "`gpu` cannot be enforced: devices are the container's";

/// Whose limits are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those of tasks and processes that must have them.
    Strict,
    /// Also those that are `best_effort`.
    All,
}

impl Whose {
    fn includes(self, resources: &Resources) -> bool {
        self == Whose::All || !resources.best_effort
    }
}

/// What this machine can enforce.
#[derive(Debug)]
pub struct Survey {
    /// Where groups can be made.
    pub hierarchies: Hierarchies,
}

impl Survey {
    /// Looks at this machine. Changes nothing.
    pub fn take() -> Survey {
        Survey {
            hierarchies: Hierarchies::find(),
        }
    }

    /// The limits of `task` that cannot be enforced, each with the process that has it.
    pub fn problems(&self, task: &Task, whose: Whose) -> Vec<String> {
        let mut problems = Vec::new();
        for process in &task.processes {
            if let Some(resources) = &process.resources {
                let name = format!("process {:?}", process.name);
                if whose.includes(resources) {
                    self.add(&mut problems, resources, &name, true);
                }
            }
        }
        if let Some(resources) = task.resources.as_ref().filter(|_| task.enforce)
            && whose.includes(resources)
        {
            self.add(&mut problems, resources, "the task", false);
        }
        problems
    }

    fn add(&self, problems: &mut Vec<String>, resources: &Resources, whose: &str, own: bool) {
        let found = unenforced(resources, &self.hierarchies, own);
        problems.extend(
            found
                .into_iter()
                .map(|problem| format!("{whose}: {problem}")),
        );
    }

    /// Every limit, and what enforces it here.
    pub fn rows(&self) -> Vec<Row> {
        let tried = Limits {
            cpu: 1.0,
            cpu_weight: Some(100),
            ram: 1 << 30,
            ram_high: Some(1 << 30),
            swap: Some(0),
            pids: Some(100),
            io_weight: Some(100),
        };
        let problems = tried.problems(&self.hierarchies);
        let kinds = [
            ("cpu", Controller::Cpu, "cpu.cfs_quota_us", "cpu.max"),
            ("cpu_weight", Controller::Cpu, "cpu.shares", "cpu.weight"),
            (
                "ram",
                Controller::Memory,
                "memory.limit_in_bytes",
                "memory.max",
            ),
            ("ram_high", Controller::Memory, "", "memory.high"),
            (
                "swap",
                Controller::Memory,
                "memory.memsw.limit_in_bytes",
                "memory.swap.max",
            ),
            ("pids", Controller::Pids, "pids.max", "pids.max"),
            ("io_weight", Controller::Io, "blkio.bfq.weight", "io.weight"),
        ];
        let rows = kinds.into_iter().map(|(what, controller, v1, v2)| {
            let problem = problems.iter().find(|problem| problem.what == what);
            let mechanism = match (problem, self.hierarchies.of(controller)) {
                (None, Some(hierarchy)) => {
                    let (version, file) = match hierarchy.version {
                        Version::V1 => ("v1", v1),
                        Version::V2 => ("v2", v2),
                    };
                    let base = hierarchy.base.display();
                    Mechanism::By(format!("cgroup {version}, {file} below {base}"))
                }
                (Some(problem), _) => Mechanism::Missing(problem.why.clone()),
                (None, None) => Mechanism::Missing(self.hierarchies.why_not(controller).to_owned()),
            };
            Row { what, mechanism }
        });
        rows.collect()
    }
}

/// The limits in `resources` that cannot be enforced here.
pub(super) fn unenforced(
    resources: &Resources,
    hierarchies: &Hierarchies,
    of_process: bool,
) -> Vec<String> {
    let limits = Limits::of(resources).problems(hierarchies);
    let mut problems: Vec<String> = limits.iter().map(LimitError::to_string).collect();
    if of_process {
        let own = check_rlimits(resources);
        problems.extend(own.iter().map(RlimitError::to_string));
    }
    if resources.gpu > 0 {
        problems.push(NO_GPU.to_owned());
    }
    problems
}

/// True when something of the task is to be limited at all.
pub fn has_limits(task: &Task) -> bool {
    let mut processes = task.processes.iter();
    task.enforce || processes.any(|process| process.resources.is_some())
}
