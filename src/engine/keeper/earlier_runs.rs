//! One tree, one run: nothing of a run is alive when the next run of its process passes its gate.
//!
//! What is left of a run may live on when its first process has ended (it left the session); the
//! next launch of that process kills it, and the gate waits until it is gone. A run's group tells
//! what is its; where there is none, what the keeper was handed at the run's end.

use super::{
    handed_over::HandedOver,
    keeper::Keeper,
    runs::{Phase, Run},
    stopping::give_up,
};
use crate::{
    engine::ipc::Key,
    resources::Group,
    sys::{
        process::{self, Stat},
        tree,
    },
};

impl Keeper {
    /// Kills what is left of the runs of this process before `key`.
    pub(super) fn end_earlier(&mut self, key: Key) {
        if key.run == 0 {
            return;
        }
        self.earlier_groups(key).iter().for_each(Group::kill);
        self.cgroups.kill_left(key);
        let left = self.handed_over.left_before(key);
        if !left.is_empty()
            && let Err(error) = tree::kill_all(
                || self.look(),
                |snapshot| {
                    let is_there =
                        |stat: &&Stat| snapshot.get(stat.pid).is_some_and(|now| now.is_same(stat));
                    let its = left.iter().filter(is_there);
                    its.flat_map(|stat| {
                        let below = snapshot.below(stat.pid, None);
                        std::iter::once(*stat).chain(below)
                    })
                    .collect()
                },
            )
        {
            give_up(&error);
        }
    }

    /// True while something of the runs of this process before `key` is alive.
    pub(super) fn has_earlier(&self, key: Key) -> bool {
        key.run > 0
            && (self.earlier_groups(key).iter().any(|group| !group.remove())
                || self.cgroups.has_left(key)
                || !self.handed_over.left_before(key).is_empty())
    }

    /// What is left of the runs before this one.
    pub(super) fn earlier(&self, key: Key) -> Vec<Stat> {
        let mut pids = self.cgroups.processes_left(key);
        for group in self.earlier_groups(key) {
            pids.extend(group.processes());
        }
        let mut left: Vec<Stat> = pids.into_iter().filter_map(process::stat).collect();
        left.extend(self.handed_over.left_before(key));
        left
    }

    /// The groups of the runs before this one whose first processes are dead and not reaped yet.
    fn earlier_groups(&self, key: Key) -> Vec<Group> {
        let before = self.runs.before(key).into_iter();
        let ended = before
            .filter_map(|index| self.runs.get(index))
            .filter(|run| matches!(run.phase, Phase::Ended { .. }));
        ended.filter_map(|run| self.tasks.group_of(run)).collect()
    }

    /// Takes note of orphans, and of which runs they are, where groups do not tell.
    pub(super) fn note_handed_over(&mut self, orphans: &[Stat]) {
        let mut runs = self.runs.iter();
        if runs.all(|(_, run)| run.group.is_some()) && self.handed_over.is_empty() {
            return;
        }
        let mut handed_over = std::mem::take(&mut self.handed_over);
        handed_over.forget_the_dead();
        for orphan in orphans {
            if !handed_over.knows(orphan) {
                let of = self.run_that_left(orphan);
                handed_over.add(*orphan, of);
            }
        }
        self.handed_over = handed_over;
    }

    /// The run without a group that an orphan is of: by its session and its output, else the one
    /// whose first process has just ended.
    fn run_that_left(&self, orphan: &Stat) -> Option<Key> {
        // Another task's processes are never ended for this one.
        let task = self.task_of_orphan(orphan)?;
        let all = self.runs.of_task(task);
        let ungrouped: Vec<&Run> = all.filter(|run| run.group.is_none()).collect();
        let is_dead = |run: &Run| matches!(run.phase, Phase::Draining { .. } | Phase::Ended { .. });
        let is_marked = |run: &&&Run| {
            run.pid == orphan.session
                || (!is_dead(run) && HandedOver::shares_output(run.pid, orphan.pid))
        };
        let has_just_ended = |run: &&&Run| is_dead(run) && run.start_ticks <= orphan.start_ticks;
        let marked = ungrouped.iter().find(is_marked);
        let ended = ungrouped.iter().filter(has_just_ended);
        let of = marked.or_else(|| ended.max_by_key(|run| run.start_ticks));
        of.map(|run| run.key)
    }

    /// The task of an orphan; `None` when it hides from all marks.
    fn task_of_orphan(&self, orphan: &Stat) -> Option<u32> {
        let is_inside = |task: &u32| self.namespaces.init_of(*task) == Some(orphan.parent);
        let inside = self.tasks.numbers().into_iter().find(is_inside);
        inside.or_else(|| self.tasks.owner(orphan))
    }
}
