//! Gates: a child waits at its own until its start is on disk, and then becomes the user's program.
//!
//! The law of a start: no byte goes through a gate before the start record is durable, and a
//! child's slot in the shared state says whether it went through, whatever dies meanwhile.

use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{MsgFlags, send};

use super::{keeper::Keeper, runs::Phase};
use crate::{
    engine::ipc::{Gate, Key},
    journal::{Exec, Kind},
    sys::retry::again,
};

impl Keeper {
    /// Starts that are on disk may have their effect.
    pub(super) fn open_gates(&mut self) {
        while let Some((seq, index)) = self.pending.next_gate() {
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
