//! The runs that the keeper looks after, and where each of them stands: from a launch that waits
//! for a free slot to a dead process whose session still lives.
//!
//! A run begins at most once: its number is spent when it is admitted. Nothing is started,
//! signalled or reaped here.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    os::fd::OwnedFd,
};

use crate::{engine::ipc::Key, protocols::dewar::link as wire};

/// Where a run stands, seen by its keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its child waits at the gate until record `start` is on disk.
    Gated { start: u64 },
    /// The gate was opened; exec has not reported yet.
    Passing,
    /// It is the user's program.
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
    /// How many processes that were killed for memory have been told of.
    pub told: u64,
    /// When that was last, microseconds of CLOCK_BOOTTIME.
    pub told_at: u64,
}

/// One run of a process.
#[derive(Debug)]
pub(super) struct Run {
    pub key: Key,
    pub pid: i32,
    pub start_ticks: u64,
    pub pidfd: OwnedFd,
    pub phase: Phase,
    /// The keeper's own child, so that waitid tells its end. Otherwise root and keeper died
    /// together, and its parent is another process.
    pub is_child: bool,
    /// The keeper's end of the gate, until exec has reported.
    pub gate: Option<OwnedFd>,
    /// Its slot in the shared state, until its exec is on disk.
    pub slot: Option<usize>,
    /// The record that makes the slot superfluous.
    pub exec: Option<u64>,
    /// A stop was asked for: its tree is left in peace until it is killed.
    pub stopping: bool,
    /// Its output goes through the pump.
    pub pumped: bool,
    /// The name of its cgroup below the task's.
    pub group: Option<Box<str>>,
    /// It has limits, so its usage is told.
    pub limited: bool,
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
    /// The number of the run that may begin next, by task and process.
    next_run: HashMap<(u32, u32), u32>,
    /// Started under a keeper that died, and never past their gate.
    unlaunched: BTreeSet<Key>,
    /// Launches that wait for a free slot, each with its task.
    queued: VecDeque<(u32, wire::Launch)>,
    /// Dead and on disk, but something of their session may still be alive.
    lingering: Vec<usize>,
    /// Their starts are on disk, but something of an earlier run of their process may be alive.
    held: Vec<Held>,
}

/// A run whose gate stays shut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// The record of its start.
    pub start: u64,
    /// Which run it is.
    pub index: usize,
    /// When a person is told, microseconds of CLOCK_BOOTTIME; `None`: it has been.
    pub tell_at: Option<u64>,
}

impl Runs {
    /// Spends the number of a run that is to begin. `None` when it has begun before, or when
    /// nothing may begin; true when a dead keeper has recorded its start.
    pub fn admit(&mut self, key: Key, is_allowed: bool) -> Option<bool> {
        let again = self.unlaunched.remove(&key);
        let next = self.next_run.entry((key.task, key.process)).or_default();
        if !is_allowed || (!again && key.run < *next) {
            return None;
        }
        *next = (*next).max(key.run + 1);
        Some(again)
    }

    /// The journal says which run of a process may begin next.
    pub fn set_next(&mut self, task: u32, process: u32, run: u32) {
        self.next_run.insert((task, process), run);
    }

    /// A run that has a start record and never passed its gate.
    pub fn add_unlaunched(&mut self, key: Key) {
        self.unlaunched.insert(key);
    }

    /// Forgets a run that never passed its gate; false when there is none of this key.
    pub fn take_unlaunched(&mut self, key: Key) -> bool {
        self.unlaunched.remove(&key)
    }

    /// The runs that never passed their gate, as a runner is told.
    pub fn unlaunched(&self) -> Vec<wire::Unlaunched> {
        let all = self.unlaunched.iter().map(|key| wire::Unlaunched {
            process: key.process,
            run: key.run,
            task: key.task,
        });
        all.collect()
    }

    /// A launch waits for a free slot.
    pub fn queue(&mut self, task: u32, launch: wire::Launch) {
        self.queued.push_back((task, launch));
    }

    /// True while launches wait.
    pub fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// The launch that has waited longest.
    pub fn next_queued(&mut self) -> Option<(u32, wire::Launch)> {
        self.queued.pop_front()
    }

    /// Nothing more of `task` is launched, and what is left behind by its runs is left in peace.
    pub fn begin_stopping(&mut self, task: u32) {
        self.queued.retain(|(other, _)| *other != task);
        for run in self.slab.iter_mut().flatten() {
            if run.key.task == task {
                run.stopping = true;
            }
        }
    }

    /// A dead run whose end is on disk: it is reaped when nothing of its session lives.
    pub fn linger(&mut self, index: usize) {
        self.lingering.push(index);
    }

    /// The runs that wait to be reaped; those that must go on waiting are to be added again.
    pub fn take_lingering(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.lingering)
    }

    /// The gate of a run stays shut until nothing of the runs before it is left.
    pub fn hold(&mut self, held: Held) {
        self.held.push(held);
    }

    /// The runs whose gates are shut for that; those that must go on waiting are to be added again.
    pub fn take_held(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.held)
    }

    /// True while gates are shut for that.
    pub fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// The runs whose gates are shut for that.
    pub fn held_keys(&self) -> Vec<Key> {
        let held = self.held.iter();
        held.filter_map(|held| Some(self.get(held.index)?.key))
            .collect()
    }

    /// The runs that have waited so long by `clock` that a person is to be told, once.
    pub fn held_too_long(&mut self, clock: u64) -> Vec<usize> {
        let overdue = self
            .held
            .iter_mut()
            .filter_map(|held| held.tell_at.take_if(|at| *at <= clock).map(|_| held.index));
        overdue.collect()
    }

    /// When a person is to be told of a run that waits.
    pub fn held_due(&self) -> Option<u64> {
        self.held.iter().filter_map(|held| held.tell_at).min()
    }

    /// The runs of the same process before this one that are not reaped yet.
    pub fn before(&self, key: Key) -> Vec<usize> {
        if key.run == 0 {
            return Vec::new();
        }
        let earlier = self.iter().filter(|(_, run)| {
            let of = run.key;
            of.task == key.task && of.process == key.process && of.run < key.run
        });
        earlier.map(|(index, _)| index).collect()
    }

    /// Adds a run; its number is spent.
    pub fn insert(&mut self, run: Run) -> usize {
        let (key, pid) = (run.key, run.pid);
        let next = self.next_run.entry((key.task, key.process)).or_default();
        *next = (*next).max(key.run + 1);
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

    /// Removes a run that is over.
    pub fn remove(&mut self, index: usize) -> Option<Run> {
        let run = self.slab.get_mut(index)?.take()?;
        self.by_key.remove(&run.key);
        self.by_pid.remove(&run.pid);
        self.free.push(index);
        Some(run)
    }

    /// The run with this index.
    pub fn get(&self, index: usize) -> Option<&Run> {
        self.slab.get(index)?.as_ref()
    }

    /// The run with this index, to change it.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Run> {
        self.slab.get_mut(index)?.as_mut()
    }

    /// The index of a run.
    pub fn find(&self, key: Key) -> Option<usize> {
        self.by_key.get(&key).copied()
    }

    /// True when this is the first process of a run.
    pub fn has_pid(&self, pid: i32) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// The task of the run whose first process this is.
    pub fn task_of(&self, pid: i32) -> Option<u32> {
        let index = self.by_pid.get(&pid)?;
        Some(self.get(*index)?.key.task)
    }

    /// True when the first process of every run of `task` is dead and recorded so.
    pub fn all_ended(&self, task: u32) -> bool {
        let mut runs = self.slab.iter().flatten();
        runs.all(|run| run.key.task != task || matches!(run.phase, Phase::Ended { .. }))
    }

    /// All runs with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Run)> {
        let numbered = self.slab.iter().enumerate();
        numbered.filter_map(|(index, run)| Some((index, run.as_ref()?)))
    }

    /// The runs of a task.
    pub fn of_task(&self, task: u32) -> impl Iterator<Item = &Run> {
        let all = self.slab.iter().flatten();
        all.filter(move |run| run.key.task == task)
    }

    /// Runs whose output has been waited for until `clock`.
    pub fn drained_by(&self, clock: u64) -> Vec<(usize, Key)> {
        let overdue = self
            .iter()
            .filter(|(_, run)| matches!(run.phase, Phase::Draining { until } if until <= clock));
        overdue.map(|(index, run)| (index, run.key)).collect()
    }

    /// When the output of a dead process is not waited for any longer.
    pub fn drain_due(&self) -> Option<u64> {
        let drains = self.iter().filter_map(|(_, run)| match run.phase {
            Phase::Draining { until } => Some(until),
            _ => None,
        });
        drains.min()
    }

    /// Gives back what a busy time took.
    pub fn shrink_to_fit(&mut self) {
        self.queued.shrink_to_fit();
    }
}
