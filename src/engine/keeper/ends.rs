//! How runs begin to run and how they end: gates, exits, output, reaping, emptiness.
//!
//! An end is peeked at (WNOWAIT), recorded, synced and only then reaped: a process stays a zombie
//! until its exit code is on disk, so a successor can still read it.

use std::os::fd::{AsFd, AsRawFd};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, killpg},
        socket::{MsgFlags, send},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

use rustix::process::{PidfdFlags, pidfd_open};

use super::{
    exit_info,
    keeper::{DRAIN_US, Keeper, Token, UNREAD_US},
    runs::Phase,
    spawn::explain,
    stopping::give_up,
    tasks::KeptTask,
};
use crate::{
    engine::ipc::{Gate, Key},
    journal::{End, Exec, How, Kind, LaunchFailure, Lost},
    sys::{
        clock::now,
        process,
        retry::again,
        tree::{self, Snapshot},
    },
};

impl Keeper {
    /// Starts that are on disk may have their effect.
    pub(super) fn open_gates(&mut self) {
        while let Some((seq, index)) = self.gates.front().copied() {
            if seq > self.durable {
                break;
            }
            self.gates.pop_front();
            let Some(run) = self.runs.get_mut(index) else {
                continue;
            };
            if run.phase != (Phase::Gated { start: seq }) {
                continue;
            }
            run.phase = Phase::Passing;
            if let Some(gate) = &run.gate
                && let Err(errno) = again(|| send(gate.as_raw_fd(), &[1], MsgFlags::MSG_NOSIGNAL))
            {
                // It died at its gate; its exit tells the rest.
                tracing::debug!("the gate of pid {}: {errno}", run.pid);
            }
        }
    }

    /// The child's end of the gate closed: it became the user's program, or died.
    pub(super) fn gate_spoke(&mut self, index: usize) {
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        let Some(gate) = run.gate.take() else { return };
        let (key, passed) = (run.key, self.slot_says(index) == Some(Gate::Passed));
        self.unwatch(gate.as_fd());
        drop(gate);
        if passed {
            self.executed(index, key);
        }
    }

    fn slot_says(&self, index: usize) -> Option<Gate> {
        let slot = self.runs.get(index)?.slot?;
        Some(self.shared.live.gate(slot))
    }

    pub(super) fn executed(&mut self, index: usize, key: Key) {
        if self.runs.get(index).is_none_or(|run| run.exec.is_some()) {
            return;
        }
        let exec = Exec {
            process: key.process,
            run: key.run,
        };
        let seq = self.record(key.task, Kind::Exec(exec));
        if let Some(run) = self.runs.get_mut(index) {
            run.exec = Some(seq);
            run.program = None;
            if matches!(run.phase, Phase::Passing) {
                run.phase = Phase::Running;
            }
            self.slots.push_back((seq, index));
        }
    }

    /// A slot is kept until the record that says the same is on disk.
    pub(super) fn free_slots(&mut self) {
        while let Some((seq, index)) = self.slots.front().copied() {
            if seq > self.durable {
                break;
            }
            self.slots.pop_front();
            if let Some(run) = self.runs.get_mut(index)
                && run.exec == Some(seq)
                && let Some(slot) = run.slot.take()
            {
                self.shared.live.free_slot(slot);
            }
        }
    }

    /// The pidfd of a run's first process is readable.
    pub(super) fn first_process_died(&mut self, index: usize) {
        let Some(run) = self.runs.get(index) else {
            return;
        };
        if matches!(run.phase, Phase::Ended { .. } | Phase::Draining { .. }) {
            return;
        }
        self.unwatch(run.pidfd.as_fd());
        self.unwatch_memory(index);
        self.children_changed = true;
        let Some(run) = self.runs.get(index) else {
            return;
        };
        // What is left in its process group dies with it, unless a stop gives it time. The group
        // cannot be somebody else's: its leader is not reaped.
        if run.is_child && !run.stopping {
            match killpg(Pid::from_raw(run.pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => tracing::warn!("cannot kill group {}: {errno}", run.pid),
            }
        }
        if run.pumped {
            let patience = match self.shared.holds(run.key) {
                true => UNREAD_US,
                false => DRAIN_US,
            };
            let until = now().boot_us + patience;
            if let Some(run) = self.runs.get_mut(index) {
                run.phase = Phase::Draining { until };
            }
        } else {
            self.end(index);
        }
    }

    /// All output of a run is in its files; if its process is dead, that is its end.
    pub(super) fn output_finished(&mut self, key: Key) {
        let Some(index) = self.runs.find(key) else {
            return;
        };
        if let Some(run) = self.runs.get_mut(index) {
            run.pumped = false;
            if matches!(run.phase, Phase::Draining { .. }) {
                self.end(index);
            }
        }
    }

    /// Ends the runs whose output somebody else still holds open: that does not keep a run alive.
    pub(super) fn end_drained(&mut self, clock: u64) {
        let overdue: Vec<(usize, Key)> = self
            .runs
            .iter()
            .filter(|(_, run)| matches!(run.phase, Phase::Draining { until } if until <= clock))
            .map(|(index, run)| (index, run.key))
            .collect();
        for (index, key) in overdue {
            let (who, is_behind) = match &self.pump {
                Some(pump) => (pump.holders(key), pump.is_behind(key)),
                None => (Vec::new(), false),
            };
            // A slow disk takes its time, unless everything is being killed; somebody else who writes on
            // has none.
            let kills = self
                .tasks
                .get(key.task)
                .is_some_and(|kept| kept.killing_all);
            if is_behind && !kills && who.is_empty() {
                if let Some(run) = self.runs.get_mut(index) {
                    let until = clock + DRAIN_US;
                    run.phase = Phase::Draining { until };
                }
                continue;
            }
            let who = match who.as_slice() {
                [] => "another process".to_owned(),
                pids => pids
                    .iter()
                    .map(|pid| format!("pid {pid} ({})", process::command(*pid)))
                    .collect::<Vec<_>>()
                    .join(", "),
            };
            self.notice(format!("its output is still held open by {who}"), key);
            self.end(index);
        }
    }

    fn end(&mut self, index: usize) {
        let Some(run) = self.runs.get(index) else {
            return;
        };
        let (key, program) = (run.key, run.program.clone());
        let how = match self.slot_says(index) {
            Some(Gate::Failed(error)) => {
                let (reason, exec_errno) = explain(error, program.as_deref().unwrap_or_default());
                How::LaunchFailed(LaunchFailure { reason, exec_errno })
            }
            said => {
                let how = if run.is_child {
                    peek(run.pid)
                } else {
                    exit_info::exit_of_stranger(run.pidfd.as_fd())
                };
                if said == Some(Gate::Passed) {
                    self.executed(index, key);
                }
                how
            }
        };
        let usage = self.used_by(index);
        let out_of_memory = match &usage {
            Some(usage) => self.ended_for_memory(index, usage, &how),
            None => false,
        };
        let end = End {
            process: key.process,
            run: key.run,
            how: Some(how),
            usage,
            out_of_memory,
        };
        let end = self.record(key.task, Kind::End(end));
        if let Some(run) = self.runs.get_mut(index) {
            run.phase = Phase::Ended { end };
            run.gate = None;
        }
        self.reaps.push_back((end, index));
    }

    /// Ends that are on disk may be reaped, once nothing of their session is left.
    pub(super) fn collect_reaps(&mut self) {
        while let Some((seq, index)) = self.reaps.front().copied() {
            // When nothing can be written any more nothing is waited for: a namespace's init waits for its zombies.
            if seq > self.durable && self.failed.is_none() {
                break;
            }
            self.reaps.pop_front();
            self.lingering.push(index);
            self.children_changed = true;
        }
    }

    /// Orphans, ended sessions, emptiness: everything that a child's death may have changed.
    pub(super) fn look_after_children(&mut self) {
        if !std::mem::take(&mut self.children_changed) {
            return;
        }
        let strangers = match self.strangers() {
            Ok(strangers) => strangers,
            Err(error) => give_up(&error),
        };
        self.reap_ended(&strangers);
        self.remove_left_groups();
        let ending: Vec<u32> = self
            .tasks
            .iter()
            .filter(|(_, kept)| kept.killing_all || kept.awaiting_empty)
            .map(|(task, _)| task)
            .collect();
        for task in ending {
            self.look_after_ending(task, &strangers);
        }
    }

    /// A task that is being killed, or whose runner waits until nothing of it is left.
    fn look_after_ending(&mut self, task: u32, strangers: &[process::Stat]) {
        // What hides from all marks is known by its group.
        let grouped = self
            .tasks
            .get(task)
            .map_or_else(Vec::new, KeptTask::grouped);
        let init = self.init_of(task);
        let is_its = |stat: &process::Stat| {
            self.tasks.owner(stat) == Some(task)
                || grouped.contains(&stat.pid)
                || init == Some(stat.parent)
        };
        let has_strangers = strangers.iter().any(is_its);
        let has_strays = |keeper: &Keeper| task == 0 && keeper.has_live_strays();
        let kills = self.tasks.get(task).is_some_and(|kept| kept.killing_all);
        if kills && (has_strangers || has_strays(self)) {
            // What was forked while it was being killed.
            if let Err(error) = tree::kill_all(|snapshot| self.everything(task, snapshot)) {
                give_up(&error);
            }
            self.watch_strays();
        }
        self.watch_orphans(strangers);
        let is_empty = !has_strangers && self.runs.all_ended(task) && !has_strays(self);
        if let Some(kept) = self.tasks.get_mut(task)
            && kept.awaiting_empty
            && is_empty
        {
            kept.awaiting_empty = false;
            kept.killing_all = false;
            self.report.empty.push(task);
        }
    }

    /// Those that are not our children die without a word to us: somebody waits for it.
    fn watch_orphans(&mut self, strangers: &[process::Stat]) {
        let me = std::process::id() as i32;
        for stat in strangers.iter().filter(|stat| stat.parent != me) {
            if self.orphans.contains_key(&stat.pid) {
                continue;
            }
            let opened = rustix::process::Pid::from_raw(stat.pid)
                .map(|pid| pidfd_open(pid, PidfdFlags::empty()));
            match opened {
                Some(Ok(pidfd)) => {
                    let number = Token::Orphan.number(stat.pid as usize);
                    match self.watch(pidfd.as_fd(), number) {
                        Ok(()) => drop(self.orphans.insert(stat.pid, pidfd)),
                        Err(error) => tracing::error!("cannot watch pid {}: {error}", stat.pid),
                    }
                }
                // It is gone already.
                _ => self.children_changed = true,
            }
        }
    }

    pub(super) fn orphan_died(&mut self, pid: i32) {
        if let Some(pidfd) = self.orphans.remove(&pid) {
            self.unwatch(pidfd.as_fd());
        }
        self.children_changed = true;
    }

    fn reap_ended(&mut self, strangers: &[process::Stat]) {
        for index in std::mem::take(&mut self.lingering) {
            let Some(run) = self.runs.get(index) else {
                continue;
            };
            let session = run.pid;
            if !run.stopping && strangers.iter().any(|stat| stat.session == session) {
                let me = std::process::id() as i32;
                let killed = tree::kill_all(|snapshot: &Snapshot| {
                    let below = snapshot.below(me, None).into_iter();
                    below.filter(|stat| stat.session == session).collect()
                });
                match killed {
                    Ok(_) => {
                        self.watch_orphans(strangers);
                        self.lingering.push(index);
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
        self.forget_group(&run);
    }
}

/// How a child of ours that is dead ended; it stays a zombie.
fn peek(pid: i32) -> How {
    use rustix::{
        io::retry_on_intr,
        process::{Pid, WaitId, WaitIdOptions, waitid},
    };
    let lost = |reason: String| How::Lost(Lost { reason });
    let Some(pid) = Pid::from_raw(pid) else {
        return lost("it has no pid".to_owned());
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match retry_on_intr(|| waitid(WaitId::Pid(pid), options)) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => How::Exited(code as u32),
            (None, Some(signal)) => How::Signaled(signal as u32),
            (None, None) => lost("an end that is none".to_owned()),
        },
        Ok(None) => lost("it is not dead".to_owned()),
        Err(errno) => lost(format!("its exit code cannot be read: {errno}")),
    }
}
