//! Signalling trees of processes, and no other process.
//!
//! A process is signalled through a pidfd that was opened and then found to be still the process
//! that was meant. The keeper is a subreaper: whatever its processes leave behind stays below it.

use std::collections::{HashMap, HashSet};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::process::{self, Stat, looking};

/// A look at processes, for walking trees.
#[derive(Default)]
pub(crate) struct Snapshot {
    stats: HashMap<i32, Stat>,
    children: HashMap<i32, Vec<i32>>,
}

impl Snapshot {
    /// Looks at every process of the machine: what that costs grows with their number.
    pub fn of_machine() -> std::io::Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        for stat in process::all()? {
            snapshot.add(stat);
        }
        Ok(snapshot)
    }

    /// Looks at what is below `top`, a process with one thread that has children.
    pub fn of_descendants(top: i32) -> std::io::Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let mut queue = process::children_of(top)?;
        while let Some(pid) = queue.pop() {
            // One that is gone has nothing below it any more: that has another parent by now.
            let Some(stat) = process::stat(pid) else {
                continue;
            };
            if snapshot.add(stat) && !stat.is_dead() {
                queue.extend(process::children_of_threads(pid)?);
            }
        }
        Ok(snapshot)
    }

    /// Looks at these processes, as far as they are there.
    pub fn of_processes(pids: &[i32]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for stat in pids.iter().copied().filter_map(process::stat) {
            snapshot.add(stat);
        }
        snapshot
    }

    /// Adds one process; false when it was there.
    pub fn add(&mut self, stat: Stat) -> bool {
        if self.stats.insert(stat.pid, stat).is_some() {
            return false;
        }
        self.children.entry(stat.parent).or_default().push(stat.pid);
        true
    }

    pub fn get(&self, pid: i32) -> Option<&Stat> {
        self.stats.get(&pid)
    }

    /// Everything below `top`, without going into `spared`, parents before their children.
    pub fn below(&self, top: i32, spared: Option<i32>) -> Vec<Stat> {
        let mut seen = HashSet::from([top]);
        seen.extend(spared);
        let mut found = Vec::new();
        let mut queue = vec![top];
        while let Some(pid) = queue.pop() {
            for child in self.children.get(&pid).into_iter().flatten() {
                if seen.insert(*child) {
                    found.push(self.stats[child]);
                    queue.push(*child);
                }
            }
        }
        found.sort_by_key(|stat| stat.start_ticks);
        found
    }

    /// True when `pid` descends from `top`.
    pub fn is_below(&self, pid: i32, top: i32) -> bool {
        let mut at = pid;
        // A look that is torn may have a loop in it.
        for _ in 0..self.stats.len() {
            match self.stats.get(&at) {
                Some(stat) if stat.parent == top => return true,
                Some(stat) if stat.parent > 1 => at = stat.parent,
                _ => return false,
            }
        }
        false
    }

    pub fn iter(&self) -> impl Iterator<Item = Stat> + '_ {
        self.stats.values().copied()
    }

    pub fn in_session(&self, session: i32) -> impl Iterator<Item = Stat> + '_ {
        let all = self.stats.values().copied();
        all.filter(move |stat| stat.session == session)
    }
}

/// Signals exactly the process that `target` describes; false when it is not there any more.
pub(crate) fn signal(target: &Stat, signal: Signal) -> bool {
    let Some(pid) = Pid::from_raw(target.pid) else {
        return false;
    };
    // Also a keeper that has no descriptor left must be able to stop what it has started.
    let opened = looking(|| Ok(pidfd_open(pid, PidfdFlags::empty())?));
    let Ok(pidfd) = opened else {
        return false;
    };
    // Between the look and the open the pid may have passed to another process.
    match process::stat(target.pid) {
        Some(now) if now.start_ticks == target.start_ticks && !now.is_dead() => {}
        _ => return false,
    }
    match pidfd_send_signal(&pidfd, signal) {
        Ok(()) => true,
        Err(errno) => {
            if errno != rustix::io::Errno::SRCH {
                tracing::warn!("cannot signal pid {}: {errno}", target.pid);
            }
            false
        }
    }
}

/// SIGKILLs all that `targets` finds in what `look` sees. Everything is stopped first, look by look
/// until nothing new appears, so that nothing forks away while it is being killed. True when
/// something was there.
pub(crate) fn kill_all(
    look: impl Fn() -> std::io::Result<Snapshot>,
    targets: impl Fn(&Snapshot) -> Vec<Stat>,
) -> std::io::Result<bool> {
    /// A tree that grows faster than this is caught again at the next death in it.
    const LOOKS: usize = 20;
    let mut stopped: HashMap<i32, Stat> = HashMap::new();
    for _ in 0..LOOKS {
        let found = targets(&look()?);
        let fresh: Vec<Stat> = found
            .into_iter()
            .filter(|stat| !stat.is_dead() && !stopped.contains_key(&stat.pid))
            .collect();
        if fresh.is_empty() {
            break;
        }
        for stat in fresh {
            signal(&stat, Signal::STOP);
            stopped.insert(stat.pid, stat);
        }
    }
    for stat in stopped.values() {
        signal(stat, Signal::KILL);
    }
    Ok(!stopped.is_empty())
}
