//! The runs that the keeper looks after, and where each of them stands.

use std::{collections::HashMap, os::fd::OwnedFd};

use crate::engine::ipc::Key;

/// Where a run stands, seen by its keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its child waits at the gate until record `start` is on disk.
    Gated { start: u64 },
    /// The gate was opened; exec has not reported yet.
    Passing,
    /// It is the user's program. The exec's record.
    Running,
    /// Its first process is dead; its output is still read, until this moment at most.
    Draining { until: u64 },
    /// Dead, and record `end` says so; to be reaped when that is on disk.
    Ended { end: u64 },
}

/// What is known of a run's memory.
#[derive(Debug)]
pub(super) struct Memory {
    /// Readable when something happened.
    pub event: OwnedFd,
    /// Processes killed for memory that were told.
    pub told: u64,
    /// When that was last, microseconds of CLOCK_BOOTTIME.
    pub told_at: u64,
}

#[derive(Debug)]
pub(super) struct Run {
    pub key: Key,
    pub pid: i32,
    pub start_ticks: u64,
    pub pidfd: OwnedFd,
    pub phase: Phase,
    /// Our child, so that waitid tells its end; else somebody else's, after root and keeper died.
    pub is_child: bool,
    /// Our end of the gate, until exec has reported.
    pub gate: Option<OwnedFd>,
    pub slot: Option<usize>,
    /// The record that makes the slot superfluous.
    pub exec: Option<u64>,
    /// A stop was asked for: its tree is left in peace until it is killed.
    pub stopping: bool,
    /// Its output goes through the pump.
    pub pumped: bool,
    /// The name of its cgroup below the task's.
    pub group: Option<Box<str>>,
    /// Tells when its memory has run out.
    pub memory: Option<Memory>,
    /// What is being executed, until it is: for the message when that fails.
    pub program: Option<Box<str>>,
}

/// All runs, found by key, by pid, and by the index that epoll carries.
#[derive(Debug, Default)]
pub(super) struct Runs {
    slab: Vec<Option<Run>>,
    free: Vec<usize>,
    by_key: HashMap<Key, usize>,
    by_pid: HashMap<i32, usize>,
}

impl Runs {
    pub fn insert(&mut self, run: Run) -> usize {
        let (key, pid) = (run.key, run.pid);
        let index = match self.free.pop() {
            Some(index) => {
                self.slab[index] = Some(run);
                index
            }
            None => {
                self.slab.push(Some(run));
                self.slab.len() - 1
            }
        };
        self.by_key.insert(key, index);
        self.by_pid.insert(pid, index);
        index
    }

    pub fn remove(&mut self, index: usize) -> Option<Run> {
        let run = self.slab.get_mut(index)?.take()?;
        self.by_key.remove(&run.key);
        self.by_pid.remove(&run.pid);
        self.free.push(index);
        Some(run)
    }

    pub fn get(&self, index: usize) -> Option<&Run> {
        self.slab.get(index)?.as_ref()
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut Run> {
        self.slab.get_mut(index)?.as_mut()
    }

    pub fn find(&self, key: Key) -> Option<usize> {
        self.by_key.get(&key).copied()
    }

    pub fn has_pid(&self, pid: i32) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// Whose first process this is.
    pub fn task_of(&self, pid: i32) -> Option<u32> {
        let index = self.by_pid.get(&pid)?;
        Some(self.get(*index)?.key.task)
    }

    /// True when the first process of every run of `task` is dead and recorded so.
    pub fn all_ended(&self, task: u32) -> bool {
        let mut runs = self.slab.iter().flatten();
        runs.all(|run| run.key.task != task || matches!(run.phase, Phase::Ended { .. }))
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &Run)> {
        let numbered = self.slab.iter().enumerate();
        numbered.filter_map(|(index, run)| Some((index, run.as_ref()?)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Run> {
        self.slab.iter_mut().flatten()
    }
}
