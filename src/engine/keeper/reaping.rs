//! What follows a death: ended runs are reaped, their sessions and groups are cleared, and the
//! runner is told when nothing of a task is left.

use std::os::fd::AsFd;

use nix::{
    sys::wait::{Id, WaitPidFlag, waitid},
    unistd::Pid,
};

use super::{keeper::Keeper, stopping::give_up, tasks::KeptTask};
use crate::{
    resources::Group,
    sys::{
        process::{self, Stat},
        retry::again,
        tree::{self, Snapshot},
    },
};

impl Keeper {
    /// Ends that are on disk may be reaped, once nothing of their session is left.
    pub(super) fn collect_reaps(&mut self) {
        // When nothing can be written any more nothing is waited for: an init waits for the
        // zombies in its namespaces.
        while let Some(index) = self.pending.next_reap(self.failed.is_none()) {
            self.runs.linger(index);
            self.children_changed = true;
        }
    }

    /// Orphans, ended sessions, emptiness: everything that a child's death may have changed.
    pub(super) fn look_after_children(&mut self) {
        if !std::mem::take(&mut self.children_changed) {
            return;
        }
        let orphans = match self.orphans() {
            Ok(orphans) => orphans,
            Err(error) => give_up(&error),
        };
        self.note_handed_over(&orphans);
        self.reap_ended(&orphans);
        let poller = &self.poller;
        self.cgroups
            .remove_left(|event| poller.forget(event.as_fd()));
        self.open_held_gates();
        let ending: Vec<u32> = self
            .tasks
            .iter()
            .filter(|(_, kept)| kept.killing_all || kept.awaiting_empty)
            .map(|(task, _)| task)
            .collect();
        for task in ending {
            self.look_after_ending(task, &orphans);
        }
    }

    /// A task that is being killed, or whose runner waits until nothing of it is left.
    fn look_after_ending(&mut self, task: u32, orphans: &[Stat]) {
        // What hides from all marks is known by its group.
        let grouped = match orphans {
            [] => Vec::new(),
            _ => self
                .tasks
                .get(task)
                .map_or_else(Vec::new, KeptTask::grouped),
        };
        let init = self.namespaces.init_of(task);
        let is_its = |stat: &&Stat| {
            self.tasks.owner(stat) == Some(task)
                || grouped.contains(&stat.pid)
                || init == Some(stat.parent)
        };
        let its: Vec<i32> = orphans.iter().filter(is_its).map(|stat| stat.pid).collect();
        let has_strays = |keeper: &Keeper| task == 0 && keeper.has_live_strays();
        let Some(kept) = self.tasks.get(task) else {
            return;
        };
        let is_populated = kept.is_populated();
        // A look for strays is one at the whole machine.
        let hunts_strays = kept.killing_all && has_strays(self);
        if kept.killing_all && (!its.is_empty() || is_populated || hunts_strays) {
            // What was forked while it was being killed.
            kept.kill_grouped();
            if hunts_strays || its.iter().any(|pid| !grouped.contains(pid)) {
                self.kill_tree(task);
            }
            self.watch_strays();
        }
        self.watch_orphans(orphans);
        let is_over = its.is_empty() && self.runs.all_ended(task) && !has_strays(self);
        if is_over && is_populated {
            // What was put into the group from outside is the child of another process.
            self.watch_members(task);
        }
        let is_gone = is_over && !is_populated;
        let is_empty = !self.awaits_last_output(task, is_gone) && is_gone;
        if let Some(kept) = self.tasks.get_mut(task)
            && kept.awaiting_empty
            && is_empty
        {
            kept.awaiting_empty = false;
            kept.killing_all = false;
            self.link.tell_empty(task);
        }
    }

    /// Waits for the ends of what is in the group of a task and not below the keeper.
    fn watch_members(&mut self, task: u32) {
        let Some(kept) = self.tasks.get(task) else {
            return;
        };
        let members = kept.grouped().into_iter();
        let members: Vec<Stat> = members.filter_map(process::stat).collect();
        // They may all have ended before they could be watched.
        self.children_changed |= members.is_empty() && !kept.is_populated();
        self.watch_orphans(&members);
    }

    /// Reaps the runs of whose sessions nothing is left; the rest of each session is killed.
    fn reap_ended(&mut self, orphans: &[Stat]) {
        for index in self.runs.take_lingering() {
            let Some(run) = self.runs.get(index) else {
                continue;
            };
            let (session, stopping) = (run.pid, run.stopping);
            let group = self.tasks.group_of(run);
            // Mostly nothing is left, and then there is nothing to look for.
            if !group.as_ref().is_some_and(Group::remove) && !stopping {
                let its = self.rest_of_session(session, group.as_ref(), orphans);
                if !its.is_empty() {
                    end_session(session, group.as_ref());
                    self.watch_orphans(&its);
                    self.runs.linger(index);
                    continue;
                }
            }
            self.reap(index);
        }
    }

    /// What lives of the session of a run whose first process is dead.
    fn rest_of_session(&self, session: i32, group: Option<&Group>, orphans: &[Stat]) -> Vec<Stat> {
        let is_its = |stat: &Stat| stat.session == session && !stat.is_dead();
        let mut its: Vec<Stat> = orphans.iter().copied().filter(is_its).collect();
        let grouped = group.map_or_else(Vec::new, Group::processes).into_iter();
        let grouped = grouped.filter_map(process::stat).filter(is_its);
        its.extend(grouped);
        its
    }

    fn reap(&mut self, index: usize) {
        let Some(run) = self.runs.remove(index) else {
            return;
        };
        if let Some(slot) = run.slot {
            self.shared.live.free_slot(slot);
        }
        if run.is_child {
            let id = || Id::Pid(Pid::from_raw(run.pid));
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
            if let Err(errno) = again(|| waitid(id(), flags)) {
                tracing::error!("cannot reap pid {}: {errno}", run.pid);
            }
        }
        if let Some(group) = self.tasks.group_of(&run) {
            self.remove_group(Some(run.key), group);
        }
    }
}

/// SIGKILL to all of the session of a run whose first process is dead.
fn end_session(session: i32, group: Option<&Group>) {
    let me = std::process::id() as i32;
    let killed = tree::kill_all(
        || match group {
            Some(group) => Ok(Snapshot::of_processes(&group.processes())),
            None => Snapshot::of_descendants(me),
        },
        |snapshot: &Snapshot| snapshot.in_session(session).collect(),
    );
    if let Err(error) = killed {
        give_up(&error);
    }
}
