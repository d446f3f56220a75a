//! What follows a death: ended runs are reaped, their sessions and groups are cleared, and the
//! runner is told when nothing of a task is left.

use nix::{
    sys::wait::{Id, WaitPidFlag, waitid},
    unistd::Pid,
};

use super::{keeper::Keeper, stopping::give_up, tasks::KeptTask};
use crate::sys::{
    process,
    retry::again,
    tree::{self, Snapshot},
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
        self.reap_ended(&orphans);
        self.cgroups.remove_left();
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
    fn look_after_ending(&mut self, task: u32, orphans: &[process::Stat]) {
        // What hides from all marks is known by its group.
        let grouped = self
            .tasks
            .get(task)
            .map_or_else(Vec::new, KeptTask::grouped);
        let init = self.namespaces.init_of(task);
        let is_its = |stat: &process::Stat| {
            self.tasks.owner(stat) == Some(task)
                || grouped.contains(&stat.pid)
                || init == Some(stat.parent)
        };
        let has_orphans = orphans.iter().any(is_its);
        let has_strays = |keeper: &Keeper| task == 0 && keeper.has_live_strays();
        let kills = self.tasks.get(task).is_some_and(|kept| kept.killing_all);
        if kills && (has_orphans || has_strays(self)) {
            // What was forked while it was being killed.
            if let Err(error) = tree::kill_all(|snapshot| self.processes_of(task, snapshot)) {
                give_up(&error);
            }
            self.watch_strays();
        }
        self.watch_orphans(orphans);
        let is_gone = !has_orphans && self.runs.all_ended(task) && !has_strays(self);
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

    /// Reaps the runs of whose sessions nothing is left; the rest of each session is killed.
    fn reap_ended(&mut self, orphans: &[process::Stat]) {
        for index in self.runs.take_lingering() {
            let Some(run) = self.runs.get(index) else {
                continue;
            };
            let session = run.pid;
            if !run.stopping && orphans.iter().any(|stat| stat.session == session) {
                let me = std::process::id() as i32;
                let killed = tree::kill_all(|snapshot: &Snapshot| {
                    let below = snapshot.below(me, None).into_iter();
                    below.filter(|stat| stat.session == session).collect()
                });
                match killed {
                    Ok(_) => {
                        self.watch_orphans(orphans);
                        self.runs.linger(index);
                        continue;
                    }
                    Err(error) => give_up(&error),
                }
            }
            self.reap(index);
        }
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
            self.cgroups.remove(group);
        }
    }
}
