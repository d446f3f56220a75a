//! Gates: a child waits at its own until its start is on disk, and then becomes the user's program.
//!
//! The law of a start: no byte goes through a gate before the start record is durable, and a
//! child's slot in the shared state says whether it went through, whatever dies meanwhile.

use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{MsgFlags, send};

use super::{
    keeper::Keeper,
    runs::{AtGate, Phase, Run},
    stopping::shown,
};
use crate::{
    engine::ipc::{Gate, Key},
    journal::{Exec, Kind},
    sys::{clock::now, retry::again},
};

/// After so long a person is told why a run does not begin, microseconds.
const HELD_US: u64 = 5_000_000;

impl Keeper {
    /// Starts that are on disk may have their effect.
    pub(super) fn open_gates(&mut self) {
        while let Some((seq, index)) = self.pending.next_gate() {
            let tell_at = Some(now().boot_us + HELD_US);
            self.open_gate(AtGate {
                start: seq,
                index,
                tell_at,
            });
            // One that stays shut is looked after.
            self.children_changed |= self.runs.has_shut_gates();
        }
    }

    /// Opens the gates that waited for the end of what earlier runs had left. What is still left is
    /// killed again, and watched: it may have got away, and may be the child of another process.
    pub(super) fn open_held_gates(&mut self) {
        for held in self.runs.take_at_gate() {
            self.open_gate(held);
        }
        for key in self.runs.keys_at_gate() {
            self.end_earlier(key);
            let left = self.earlier(key);
            // All of it may have ended before it could be watched.
            self.children_changed |= left.is_empty() && !self.has_earlier(key);
            self.watch_orphans(&left);
        }
    }

    /// Tells of the runs that have waited for long: what was killed does not die.
    pub(super) fn tell_of_held(&mut self, clock: u64) {
        for index in self.runs.too_long_at_gate(clock) {
            if let Some(key) = self.runs.get(index).map(|run| run.key) {
                let left = shown(&self.earlier(key));
                let text =
                    format!("waits for what an earlier run has left, killed and not dead: {left}");
                self.notice(text, key);
            }
        }
    }

    /// Opens the gate of a run whose start is on disk, unless something of an earlier run of its
    /// process is alive.
    fn open_gate(&mut self, held: AtGate) {
        let index = held.index;
        let is_gated = |run: &&Run| run.phase == (Phase::Gated { start: held.start });
        let Some(key) = self.runs.get(index).filter(is_gated).map(|run| run.key) else {
            return;
        };
        if self.has_earlier(key) {
            return self.runs.wait_at_gate(held);
        }
        if let Some(run) = self.runs.get_mut(index) {
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
    pub(super) fn gate_closed(&mut self, index: usize) {
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        let Some(gate) = run.gate.take() else { return };
        let (key, passed) = (run.key, self.slot_state(index) == Some(Gate::Passed));
        self.poller.forget(gate.as_fd());
        drop(gate);
        if passed {
            self.executed(index, key);
        }
    }

    /// What the slot of a run says of its launch.
    pub(super) fn slot_state(&self, index: usize) -> Option<Gate> {
        let slot = self.runs.get(index)?.slot?;
        Some(self.shared.live.gate(slot))
    }

    /// A run became the user's program: records it, once.
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
            self.pending.free_slot_after(seq, index);
        }
    }

    /// A slot is kept until the record that says the same is on disk.
    pub(super) fn free_slots(&mut self) {
        while let Some((seq, index)) = self.pending.next_slot() {
            if let Some(run) = self.runs.get_mut(index)
                && run.exec == Some(seq)
                && let Some(slot) = run.slot.take()
            {
                self.shared.live.free_slot(slot);
            }
        }
    }
}
