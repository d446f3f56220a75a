//! The runs that the keeper looks after, and where each of them stands: from a launch that waits
//! for a free slot to a dead process whose session still lives.
//!
//! A run begins at most once: its number is spent when it is admitted. Nothing is started,
//! signalled or reaped here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    os::fd::OwnedFd,
};

use super::{launch_queue::LaunchQueue, memory_kills::MemoryKills};
use crate::{engine::ipc::Key, journal::How, protocols::dewar::link as wire};

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
    /// How its first process ended, once that is known.
    pub how: Option<How>,
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
    /// Readable when its memory has run out.
    pub memory: Option<OwnedFd>,
    /// Those of its processes that the kernel killed for memory.
    pub kills: MemoryKills,
    /// What is being executed, until it is: for the message when that fails.
    pub program: Option<Box<str>>,
    /// How many of the signals that clients asked for were sent.
    pub signals_sent: u32,
    /// Slots that say so until a record does.
    pub signal_slots: Vec<usize>,
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
    /// Started under a keeper that died, and never past their gate: how many signals were for each.
    unlaunched: BTreeMap<Key, u32>,
    /// What waits to be started.
    pub queue: LaunchQueue,
    /// Dead and on disk, but something of their session may still be alive.
    lingering: Vec<usize>,
    /// Dead, and it is not known how: their tracers, or the parents that they have, hold them.
    held: BTreeSet<usize>,
    /// Their starts are on disk, but something of an earlier run of their process may be alive.
    at_gate: Vec<AtGate>,
}

/// A run whose gate stays shut.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtGate {
    /// The record of its start.
    pub start: u64,
    /// Which run it is.
    pub index: usize,
    /// When a person is told, microseconds of CLOCK_BOOTTIME; `None`: it has been.
    pub tell_at: Option<u64>,
}

impl Runs {
    /// Whether a run may begin. `None` when it has begun before; how many signals were for it when
    /// a dead keeper has recorded its start.
    pub fn may_begin(&self, key: Key) -> Option<Option<u32>> {
        let again = self.unlaunched.get(&key).copied();
        let next = self.next_run.get(&(key.task, key.process));
        let is_new = next.is_none_or(|next| key.run >= *next);
        (again.is_some() || is_new).then_some(again)
    }

    /// Spends the number of a run that begins.
    pub fn spend(&mut self, key: Key) {
        self.unlaunched.remove(&key);
        let next = self.next_run.entry((key.task, key.process)).or_default();
        *next = (*next).max(key.run + 1);
    }

    /// The journal says which run of a process may begin next.
    pub fn set_next(&mut self, task: u32, process: u32, run: u32) {
        self.next_run.insert((task, process), run);
    }

    /// A run that has a start record and never passed its gate. `signals` were for its process.
    pub fn add_unlaunched(&mut self, key: Key, signals: u32) {
        self.unlaunched.insert(key, signals);
    }

    /// Forgets a run that never passed its gate; false when there is none of this key.
    pub fn take_unlaunched(&mut self, key: Key) -> bool {
        self.unlaunched.remove(&key).is_some()
    }

    /// The runs that never passed their gate, as a runner is told.
    pub fn unlaunched(&self) -> Vec<wire::Unlaunched> {
        let all = self.unlaunched.keys().map(|key| wire::Unlaunched {
            process: key.process,
            run: key.run,
            task: key.task,
        });
        all.collect()
    }

    /// Nothing more of `task` is launched, and what is left behind by its runs is left in peace.
    pub fn begin_stopping(&mut self, task: u32) {
        self.queue.forget(task);
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
    pub fn wait_at_gate(&mut self, waiting: AtGate) {
        self.at_gate.push(waiting);
    }

    /// The runs whose gates are shut for that; those that must go on waiting are to be added again.
    pub fn take_at_gate(&mut self) -> Vec<AtGate> {
        std::mem::take(&mut self.at_gate)
    }

    /// True while gates are shut for that.
    pub fn has_shut_gates(&self) -> bool {
        !self.at_gate.is_empty()
    }

    /// The runs whose gates are shut for that.
    pub fn keys_at_gate(&self) -> Vec<Key> {
        let waiting = self.at_gate.iter();
        waiting
            .filter_map(|waiting| Some(self.get(waiting.index)?.key))
            .collect()
    }

    /// The runs that have waited so long by `clock` that a person is to be told, once.
    pub fn too_long_at_gate(&mut self, clock: u64) -> Vec<usize> {
        let overdue = self.at_gate.iter_mut().filter_map(|waiting| {
            let is_overdue = waiting.tell_at.take_if(|at| *at <= clock).is_some();
            is_overdue.then_some(waiting.index)
        });
        overdue.collect()
    }

    /// When a person is to be told of a run that waits.
    pub fn gate_due(&self) -> Option<u64> {
        let waiting = self.at_gate.iter();
        waiting.filter_map(|waiting| waiting.tell_at).min()
    }

    /// The runs of the same process before this one that are not reaped yet.
    pub fn before(&self, key: Key) -> Vec<usize> {
        if key.run == 0 {
            return Vec::new();
        }
        let earlier = self.iter().filter(|(_, run)| run.key.precedes(key));
        earlier.map(|(index, _)| index).collect()
    }

    /// The first process of a run is dead, and how it ended cannot be learnt yet.
    pub fn hold(&mut self, index: usize) {
        self.held.insert(index);
    }

    /// The end of this run is known now.
    pub fn let_go(&mut self, index: usize) {
        self.held.remove(&index);
    }

    /// Runs that were asked to stop, and are held by what has not let go of them.
    pub fn held_stopping(&self) -> Vec<usize> {
        let held = self.held.iter().copied();
        held.filter(|index| self.get(*index).is_some_and(|run| run.stopping))
            .collect()
    }

    /// Adds a run; its number is spent.
    pub fn insert(&mut self, run: Run) -> usize {
        let (key, pid) = (run.key, run.pid);
        self.spend(key);
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
        self.held.remove(&index);
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

    /// True when the first process of every run of `task` is dead and recorded so, and none is
    /// about to be launched.
    pub fn all_ended(&self, task: u32) -> bool {
        let mut runs = self.slab.iter().flatten();
        let are_dead =
            runs.all(|run| run.key.task != task || matches!(run.phase, Phase::Ended { .. }));
        are_dead && !self.queue.has_any_of(task)
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
        self.queue.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::keeper::launch_queue::Waiting, protocols::dewar::link as wire};

    #[test]
    fn a_shut_gate_is_one_thing_and_a_run_that_a_tracer_holds_another() {
        let mut runs = Runs::default();
        runs.hold(3);
        assert!(!runs.has_shut_gates());
        runs.wait_at_gate(AtGate {
            start: 1,
            index: 4,
            tell_at: None,
        });
        assert!(runs.has_shut_gates());
        runs.let_go(3);
        assert_eq!(runs.take_at_gate().len(), 1);
        assert!(!runs.has_shut_gates());
    }

    #[test]
    fn a_task_is_not_empty_while_a_launch_of_it_waits() {
        let mut runs = Runs::default();
        assert!(runs.all_ended(7));
        runs.queue.add(7, Waiting::Run(wire::Launch::default()));
        assert!(!runs.all_ended(7));
        assert!(runs.all_ended(8), "another task's launch is none of its");
        runs.queue.forget(8);
        assert!(runs.queue.is_ready());
        runs.begin_stopping(7);
        assert!(runs.all_ended(7) && !runs.queue.is_ready());
    }
}
