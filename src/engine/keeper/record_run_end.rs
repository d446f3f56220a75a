//! How runs end: exits, what is left of their output, the record of the end.
//!
//! An end is peeked at (WNOWAIT), recorded, synced and only then reaped (`reaping`): a process
//! stays a zombie until its exit code is on disk, so a successor can still read it.
//!
//! A process that is dead need not be ours yet: a debugger that traces it is told first, and a
//! process of a dead keeper may have a parent that is slow to reap. Such a run goes on until its
//! end can be learnt; its pidfd tells when to look again.

use std::os::fd::AsFd;

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::{
    foreign_exit_code::{exit_of_stranger, how_of, lost},
    keeper::Keeper,
    runs::{Phase, Run},
    spawn::explain,
};
use crate::{
    engine::ipc::{Gate, Key},
    journal::{End, How, Kind, LaunchFailure},
    sys::{clock::now, process, zombie},
};

/// How long the output of a dead process is waited for, microseconds.
pub(super) const DRAIN_US: u64 = 200_000;
/// The same when a dead keeper read it and it is not read on yet, microseconds.
const UNREAD_US: u64 = 5_000_000;

impl Keeper {
    /// The pidfd of a run's first process is readable.
    pub(super) fn first_process_died(&mut self, index: usize) {
        let Some(run) = self.runs.get(index) else {
            return;
        };
        if matches!(run.phase, Phase::Ended { .. } | Phase::Draining { .. }) {
            return;
        }
        let known = run.how.clone().or_else(|| how_it_ended(run));
        let Some(how) = known else {
            return self.runs.hold(index);
        };
        self.poller.forget(run.pidfd.as_fd());
        self.unwatch_memory(index);
        self.runs.let_go(index);
        self.children_changed = true;
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        run.how = Some(how);
        // What is left in its process group dies with it, unless a stop gives it time. The group
        // cannot be another one of that number: its leader is not reaped.
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

    /// Runs that were asked to stop wait for no tracer: where the kernel tells this process how
    /// they ended, they are over.
    pub(super) fn end_held(&mut self) {
        for index in self.runs.held_stopping() {
            self.first_process_died(index);
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

    /// Ends the runs whose output another process still holds open: that does not keep a run alive.
    pub(super) fn end_drained(&mut self, clock: u64) {
        for (index, key) in self.runs.drained_by(clock) {
            let (holders, is_behind) = match &self.pump {
                Some(pump) => (pump.holders(key), pump.is_behind(key)),
                None => (Vec::new(), false),
            };
            // A slow disk is given its time, unless everything is being killed; another process
            // that writes on is given none.
            let kills = self
                .tasks
                .get(key.task)
                .is_some_and(|kept| kept.killing_all);
            if is_behind && !kills && holders.is_empty() {
                if let Some(run) = self.runs.get_mut(index) {
                    let until = clock + DRAIN_US;
                    run.phase = Phase::Draining { until };
                }
                continue;
            }
            let holders = match holders.as_slice() {
                [] => "another process".to_owned(),
                pids => pids
                    .iter()
                    .map(|pid| format!("pid {pid} ({})", process::command(*pid)))
                    .collect::<Vec<_>>()
                    .join(", "),
            };
            self.notice(format!("its output is still held open by {holders}"), key);
            self.end(index);
        }
    }

    /// Records the end of a run; it is reaped when that is on disk.
    fn end(&mut self, index: usize) {
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        let (key, program, how) = (run.key, run.program.clone(), run.how.take());
        let Some(how) = how else {
            return tracing::error!("pid {} has ended, and it is not known how", run.pid);
        };
        let how = match self.slot_state(index) {
            Some(Gate::Failed(error)) => {
                let (reason, exec_errno) = explain(error, program.as_deref().unwrap_or_default());
                How::LaunchFailed(LaunchFailure { reason, exec_errno })
            }
            said => {
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
        self.pending.reap_after(end, index);
    }
}

/// How the dead first process of a run ended; `None` while that cannot be learnt. It is not reaped.
fn how_it_ended(run: &Run) -> Option<How> {
    match run.is_child {
        false => exit_of_stranger(run.pidfd.as_fd(), run.pid, run.start_ticks),
        true => peek(run.pid).or_else(|| {
            let status = zombie::wait_status(run.pid, run.start_ticks);
            status.filter(|_| run.stopping).map(how_of)
        }),
    }
}

/// How a child that is dead ended; it stays a zombie. `None` while its tracer holds it.
fn peek(pid: i32) -> Option<How> {
    use rustix::{
        io::retry_on_intr,
        process::{Pid, WaitId, WaitIdOptions, waitid},
    };
    let Some(pid) = Pid::from_raw(pid) else {
        return Some(lost("it has no pid"));
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match retry_on_intr(|| waitid(WaitId::Pid(pid), options)) {
        Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => How::Exited(code as u32),
            (None, Some(signal)) => How::Signaled(signal as u32),
            (None, None) => lost("an end that is none"),
        }),
        Ok(None) => None,
        Err(errno) => Some(lost(&format!("its exit code cannot be read: {errno}"))),
    }
}
