//! Which processes there are besides the first ones of runs: what is below them, orphans, and what
//! an earlier keeper left elsewhere.
//!
//! Their ends are watched, and orphans that died are reaped. Nothing is signalled here.

use std::os::fd::AsFd;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{keeper::Keeper, poller::Token};
use crate::sys::{
    process::{self, Stat},
    retry::again,
    tree::Snapshot,
};

impl Keeper {
    /// Takes the pending SIGCHLDs; true when there was one.
    pub(super) fn take_signals(&self) -> bool {
        let mut some = false;
        while matches!(self.signals.read_signal(), Ok(Some(_))) {
            some = true;
        }
        some
    }

    /// Looks at all processes that may be a task's: those below the keeper; those of the whole
    /// machine only while an earlier keeper's may be anywhere.
    pub(super) fn look(&self) -> std::io::Result<Snapshot> {
        match self.strays {
            Some(_) => Snapshot::of_machine(),
            None => Snapshot::of_descendants(std::process::id() as i32),
        }
    }

    /// All processes of the task: what is below the keeper, and what an earlier one left elsewhere.
    pub(super) fn processes_of(&self, task: u32, snapshot: &Snapshot) -> Vec<Stat> {
        let me = std::process::id() as i32;
        let spared = self.link.pid();
        let ours = (spared, self.namespaces.init_of(task));
        let (runs, has_strays) = (&self.runs, self.strays.is_some());
        let mut found = self
            .tasks
            .processes(task, runs, snapshot, me, ours, has_strays);
        if task == 0
            && let Some(strays) = &self.strays
        {
            found.extend(strays.find(snapshot));
        }
        // The inits are the keeper's; they end when their tasks do.
        found.retain(|stat| !self.namespaces.is_init(stat.pid));
        found
    }

    /// True when no process of the task is alive, as far as one cheap look tells.
    pub(super) fn nothing_left(&self, task: u32) -> bool {
        let is_its = |stat: &Stat| self.tasks.owner(stat) == Some(task);
        self.runs.all_ended(task)
            && self.strays.is_none()
            && self.tasks.get(task).is_none_or(|kept| !kept.is_populated())
            && self.orphans().is_ok_and(|found| !found.iter().any(is_its))
    }

    /// Our living children that are neither a run's first process nor the runner: orphans. None is
    /// believed only if no child died during the look: what a dying one leaves behind becomes our
    /// child when the list was read already.
    pub(super) fn orphans(&self) -> std::io::Result<Vec<Stat>> {
        loop {
            self.take_signals();
            let found = self.look_for_orphans()?;
            if !found.is_empty() || !self.take_signals() {
                return Ok(found);
            }
        }
    }

    fn look_for_orphans(&self) -> std::io::Result<Vec<Stat>> {
        let runner = self.link.pid();
        let mut found = Vec::new();
        for pid in process::children()? {
            let is_ours = Some(pid) == runner || self.namespaces.is_init(pid);
            if is_ours || self.runs.has_pid(pid) || self.health_scripts.has_pid(pid) {
                continue;
            }
            // Nothing else reaps it, and its exit code is not asked for. Many may die in a moment,
            // so the living are looked at only.
            let id = || Id::Pid(nix::unistd::Pid::from_raw(pid));
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
            match again(|| waitid(id(), flags)) {
                Ok(WaitStatus::StillAlive) => {}
                Ok(_) => continue,
                Err(errno) => tracing::debug!("reaping the orphan {pid}: {errno}"),
            }
            let stat = process::stat(pid);
            found.extend(stat.filter(|stat| !stat.is_dead()));
        }
        // What is orphaned in a pid namespace is its init's.
        for init in self.namespaces.inits() {
            let orphans = process::children_of(init)?.into_iter();
            found.extend(
                orphans
                    .filter_map(process::stat)
                    .filter(|stat| !stat.is_dead()),
            );
        }
        Ok(found)
    }

    /// Waits for the ends of orphans that are not the keeper's children: SIGCHLD does not tell of
    /// them.
    pub(super) fn watch_orphans(&mut self, orphans: &[Stat]) {
        let me = std::process::id() as i32;
        for stat in orphans.iter().filter(|stat| stat.parent != me) {
            if self.namespaces.has_orphan(stat.pid) {
                continue;
            }
            let opened = Pid::from_raw(stat.pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
            match opened {
                Some(Ok(pidfd)) => {
                    let index = stat.pid as usize;
                    match self.poller.watch(pidfd.as_fd(), Token::Orphan, index) {
                        Ok(()) => self.namespaces.add_orphan(stat.pid, pidfd),
                        Err(error) => tracing::error!("cannot watch pid {}: {error}", stat.pid),
                    }
                }
                // It is gone already.
                Some(Err(Errno::SRCH)) => self.children_changed = true,
                Some(Err(errno)) => tracing::error!("cannot watch pid {}: {errno}", stat.pid),
                None => {}
            }
        }
    }

    /// An orphan ended that is not the keeper's child.
    pub(super) fn orphan_died(&mut self, pid: i32) {
        if let Some(pidfd) = self.namespaces.take_orphan(pid) {
            self.poller.forget(pidfd.as_fd());
        }
        self.children_changed = true;
    }

    /// Strays are not our children: their ends are watched one by one.
    pub(super) fn watch_strays(&mut self) {
        let Some(mut strays) = self.strays.take() else {
            return;
        };
        if let Ok(snapshot) = Snapshot::of_machine() {
            for stat in strays.find(&snapshot) {
                let opened = Pid::from_raw(stat.pid)
                    .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
                if let Some(pidfd) = opened {
                    let index = strays.watched.len();
                    match self.poller.watch(pidfd.as_fd(), Token::Stray, index) {
                        Ok(()) => strays.watched.push(pidfd),
                        Err(error) => tracing::error!("cannot watch pid {}: {error}", stat.pid),
                    }
                }
            }
        }
        self.strays = Some(strays);
    }

    /// A process that an earlier keeper left behind ended.
    pub(super) fn stray_died(&mut self, index: usize) {
        let pidfd = self
            .strays
            .as_ref()
            .and_then(|strays| strays.watched.get(index));
        if let Some(pidfd) = pidfd {
            self.poller.forget(pidfd.as_fd());
        }
        self.children_changed = true;
    }

    /// True while a process lives that an earlier keeper left behind.
    pub(super) fn has_live_strays(&self) -> bool {
        self.strays.as_ref().is_some_and(|strays| {
            let look = Snapshot::of_machine();
            look.is_ok_and(|snapshot| !strays.find(&snapshot).is_empty())
        })
    }
}
