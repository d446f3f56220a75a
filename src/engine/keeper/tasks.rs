//! The tasks that a keeper looks after, and which process belongs to which of them.
//!
//! Locally there is one, and everything below the keeper is its. Under Mesos there may be several;
//! a process is then known by the run that it descends from, and one that left its ancestors by
//! its session, its HOME or the log file that it writes to. Task 0 is the group's own: the only
//! task, or the executor, which has no processes.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
};

use super::{
    output,
    runs::{Run, Runs},
};
use crate::{
    journal::Header,
    resources::{Group, TaskGroup},
    sys::{process::Stat, tree::Snapshot},
};

/// What the keeper knows of a task beside its runs.
#[derive(Debug)]
pub(super) struct KeptTask {
    /// Where its journal is.
    pub directory: String,
    /// The name that the user knows it by.
    pub task_id: String,
    /// Its cgroup, from the first run on that needs one.
    pub group: Option<TaskGroup>,
    /// The features that its header needs.
    needs: Vec<u32>,
    mark: Mark,
    has_processes: bool,
    /// The runner wants to know when nothing is left.
    pub awaiting_empty: bool,
    /// Everything of it is being killed.
    pub killing_all: bool,
    /// Nothing of it is left but output on its way into its files.
    pub last_output: Option<Wait>,
    /// It is over when this record is on disk.
    pub closing: Option<u64>,
}

/// What is waited for, in microseconds of CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// When the wait began.
    pub since: u64,
    /// When it is looked at again.
    pub until: u64,
}

impl KeptTask {
    /// The task that `header` describes; its journal is in `directory`.
    pub fn new(directory: String, header: &Header) -> KeptTask {
        KeptTask {
            directory,
            task_id: header.task_id.clone(),
            group: None,
            needs: header.needs.iter().map(|need| need.feature).collect(),
            mark: Mark::of(&header.sandbox),
            has_processes: header.executor.is_none(),
            awaiting_empty: false,
            killing_all: false,
            last_output: None,
            closing: None,
        }
    }
}

impl KeptTask {
    /// The processes in the task's group; none when it has no group.
    pub fn grouped(&self) -> Vec<i32> {
        let group = self.group.as_ref();
        group.map_or_else(Vec::new, |group| group.group().processes())
    }

    /// True while a process is in the task's group.
    pub fn is_populated(&self) -> bool {
        let group = self.group.as_ref();
        group.is_some_and(|group| group.group().is_populated())
    }

    /// SIGKILL to all of them at once, where the kernel can.
    pub fn kill_grouped(&self) {
        if let Some(group) = &self.group {
            group.group().kill();
        }
    }
}

/// By what a process of a task is known wherever it went.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// What HOME is for every process of the task.
    home: Vec<u8>,
    /// Where the logs of the task are: a process whose output goes there is the task's.
    logs: String,
}

impl Mark {
    /// The marks of the task that has this sandbox.
    pub fn of(sandbox: &str) -> Mark {
        Mark {
            home: format!("HOME={sandbox}").into_bytes(),
            logs: format!("{sandbox}/{}/", output::LOGS),
        }
    }

    /// Its standard output or error is a log file of the task.
    pub fn writes_logs(&self, pid: i32) -> bool {
        [1, 2].iter().any(|number| {
            let target = fs::read_link(format!("/proc/{pid}/fd/{number}"));
            target.is_ok_and(|target| target.to_string_lossy().starts_with(&self.logs))
        })
    }

    /// Its HOME is the task's sandbox.
    pub fn has_home(&self, pid: i32) -> bool {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == self.home)
    }
}

/// All of them, by number.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    all: BTreeMap<u32, KeptTask>,
    /// The task of the run whose first process led a session.
    sessions: HashMap<i32, u32>,
}

impl Tasks {
    /// Adds a task.
    pub fn insert(&mut self, task: u32, kept: KeptTask) {
        self.all.insert(task, kept);
    }

    /// Forgets a task that is over.
    pub fn remove(&mut self, task: u32) {
        self.all.remove(&task);
        self.sessions.retain(|_, owner| *owner != task);
    }

    /// What is known of a task.
    pub fn get(&self, task: u32) -> Option<&KeptTask> {
        self.all.get(&task)
    }

    /// What is known of a task, to change it.
    pub fn get_mut(&mut self, task: u32) -> Option<&mut KeptTask> {
        self.all.get_mut(&task)
    }

    /// The features that a runner of these tasks must know.
    pub fn needed(&self) -> Vec<u32> {
        let all = self.all.values().flat_map(|kept| &kept.needs);
        all.copied().collect()
    }

    /// The numbers of all tasks.
    pub fn numbers(&self) -> Vec<u32> {
        self.all.keys().copied().collect()
    }

    /// True while a runner waits until nothing of a task is left.
    pub fn awaits_emptiness(&self) -> bool {
        self.all.values().any(|kept| kept.awaiting_empty)
    }

    /// When output on its way is not waited for any longer.
    pub fn last_output_due(&self) -> Option<u64> {
        let waits = self.all.values().filter_map(|kept| kept.last_output);
        waits.map(|wait| wait.until).min()
    }

    /// The group of a task.
    pub fn group(&self, task: u32) -> Option<&Group> {
        Some(self.get(task)?.group.as_ref()?.group())
    }

    /// The group of a run, below its task's.
    pub fn group_of(&self, run: &Run) -> Option<Group> {
        let name = run.group.as_deref()?;
        Some(self.group(run.key.task)?.below(name))
    }

    /// All tasks with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &KeptTask)> + Clone {
        self.all.iter().map(|(task, kept)| (*task, kept))
    }

    /// The first process of a run of `task` leads this session.
    pub fn add_session(&mut self, session: i32, task: u32) {
        // With one task there is nothing to tell apart.
        if self.all.len() > 1 {
            self.sessions.insert(session, task);
        }
    }

    /// The task that has all processes, when there is only one that has any.
    fn only(&self) -> Option<u32> {
        let mut with_processes = self.iter().filter(|(_, kept)| kept.has_processes);
        let only = with_processes.next().map(|(task, _)| task);
        only.filter(|_| with_processes.next().is_none())
    }

    /// The task of a child of the keeper that is no first process of a run. A process that hides
    /// from all marks belongs to no task until one task is left.
    pub fn owner(&self, orphan: &Stat) -> Option<u32> {
        if let Some(only) = self.only() {
            return Some(only);
        }
        if let Some(task) = self.sessions.get(&orphan.session) {
            return Some(*task);
        }
        let is_of = |(_, kept): &(u32, &KeptTask)| {
            kept.has_processes
                && (kept.mark.has_home(orphan.pid) || kept.mark.writes_logs(orphan.pid))
        };
        self.iter().find(is_of).map(|(task, _)| task)
    }

    /// What of the tree below `keeper` is the task's: parents before their children.
    pub fn processes(
        &self,
        task: u32,
        runs: &Runs,
        snapshot: &Snapshot,
        keeper: i32,
        (spared, init): (Option<i32>, Option<i32>),
        may_be_elsewhere: bool,
    ) -> Vec<Stat> {
        let mut all = snapshot.below(keeper, spared);
        // What is in the task's cgroup is the task's, wherever it went.
        let add_grouped = |found: &mut Vec<Stat>| {
            let grouped = self.get(task).map_or_else(Vec::new, KeptTask::grouped);
            for pid in grouped {
                if !found.iter().any(|stat| stat.pid == pid) {
                    found.extend(snapshot.get(pid));
                }
            }
        };
        if self.only() == Some(task) {
            // What is in the group is below the keeper, unless its keeper was another one.
            if may_be_elsewhere {
                add_grouped(&mut all);
            }
            return all;
        }
        let mut found = Vec::new();
        if let Some(init) = init {
            found.extend(snapshot.below(init, None));
        }
        for child in all.iter().filter(|stat| stat.parent == keeper) {
            let owner = runs.task_of(child.pid).or_else(|| self.owner(child));
            if owner == Some(task) {
                found.push(*child);
                found.extend(snapshot.below(child.pid, None));
            }
        }
        add_grouped(&mut found);
        found
    }
}
