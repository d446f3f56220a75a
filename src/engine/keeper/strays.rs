//! Processes of a task whose keeper died: found by what they are, not by who their parent is.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use super::tasks::Mark;
use crate::{
    resources::{Group, Hierarchies},
    sys::{process::Stat, tree::Snapshot},
};

/// Processes of this task that are not below this keeper: their root and keeper died.
#[derive(Debug)]
pub(super) struct Strays {
    /// First processes of runs: pid and start.
    pub(super) first: Vec<(i32, u64)>,
    /// By what processes of the task are known.
    pub(super) mark: Mark,
    /// First processes of earlier runs are not in the journal any more.
    pub(super) is_cut: bool,
    /// HOME is the task's alone, so it marks a process as the task's wherever it went.
    pub(super) home_is_proof: bool,
    /// The directories of the task's cgroup, with their inode numbers: what is in it is the task's.
    pub(super) groups: Vec<(String, u64)>,
    /// Those whose ends are watched, by the index that epoll carries.
    pub(super) watched: Vec<OwnedFd>,
}

impl Strays {
    /// The living ones. A process is only believed to be the task's by proof: it is the recorded
    /// first process of a run or below one, or it is in such a run's session, or anywhere, with
    /// the task's own HOME.
    pub fn find(&self, snapshot: &Snapshot) -> Vec<Stat> {
        let mut found: BTreeMap<i32, Stat> = BTreeMap::new();
        let mut add = |stat: Stat| {
            if !stat.is_dead() {
                found.insert(stat.pid, stat);
            }
        };
        let mut earliest = if self.is_cut { 0 } else { u64::MAX };
        for (pid, start_ticks) in &self.first {
            earliest = earliest.min(*start_ticks);
            if let Some(first) = snapshot.get(*pid)
                && first.start_ticks == *start_ticks
            {
                add(*first);
                snapshot.below(*pid, None).into_iter().for_each(&mut add);
            }
            let session = snapshot.in_session(*pid);
            session
                .filter(|stat| stat.start_ticks >= *start_ticks && self.mark.has_home(stat.pid))
                .for_each(&mut add);
        }
        let all = snapshot.iter();
        all.filter(|stat| stat.start_ticks >= earliest)
            .filter(|stat| {
                (self.home_is_proof && self.mark.has_home(stat.pid))
                    || self.mark.writes_logs(stat.pid)
            })
            .for_each(&mut add);
        // Each time anew: a directory that was removed may be another task's by now.
        let grouped = Group::known(&Hierarchies::default(), &self.groups).processes();
        let grouped = grouped.iter().filter_map(|pid| snapshot.get(*pid));
        grouped.copied().for_each(&mut add);
        found.into_values().collect()
    }
}
