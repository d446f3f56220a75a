//! Signals that a client asked for: sent once their records are on disk, by this keeper or by the
//! one that succeeds it.
//!
//! Every signal of a run has a number. A record says up to which number they were sent, and until
//! that one is on disk the shared state does, which outlives the keeper: a signal is sent twice
//! only by a keeper that dies in the instant between the kernel's answer and the one store that
//! follows.

use rustix::process::pidfd_send_signal;

use super::{keeper::Keeper, stopping::named, survivors::Open};
use crate::{
    engine::ipc::Key,
    journal::{Kind, SignalSent},
};

impl Keeper {
    /// Any signal to the first process of a run; one that has ended meanwhile gets none.
    pub(super) fn signal_run(&mut self, key: Key, number: u32) {
        if let Some(index) = self.runs.find(key) {
            self.send_signal(index, number);
            self.record_sent(index);
        }
    }

    fn send_signal(&mut self, index: usize, number: u32) {
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        let live = &self.shared.live;
        let slot = live.take_signal_slot(run.key, run.signals_sent);
        run.signals_sent += 1;
        // The pidfd is this process' and no other's, dead or alive.
        let sent = pidfd_send_signal(&run.pidfd, named(number));
        if let Some(slot) = slot {
            live.set_signals_sent(slot, run.signals_sent);
            run.signal_slots.push(slot);
        }
        if let Err(errno) = sent
            && errno != rustix::io::Errno::SRCH
        {
            tracing::warn!("cannot signal pid {}: {errno}", run.pid);
        }
    }

    /// Records how many signals of a run were sent; its slots are freed when that is on disk.
    fn record_sent(&mut self, index: usize) {
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        let slots = std::mem::take(&mut run.signal_slots);
        let (task, count) = (run.key.task, run.signals_sent);
        let sent = SignalSent {
            process: run.key.process,
            run: run.key.run,
            count,
        };
        let seq = self.record(task, Kind::SignalSent(sent));
        for slot in slots {
            self.pending.free_signal_slot_after(seq, slot);
        }
    }

    /// Sends the signals of a run that a dead keeper had recorded and not sent.
    pub(super) fn send_owed_signals(&mut self, index: usize, open: &Open) {
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        let (slots, sent) = self.shared.live.signals_sent(run.key);
        run.signals_sent = sent.max(open.signals_sent);
        run.signal_slots = slots;
        let owed = open.signals.iter().skip(run.signals_sent as usize);
        for number in owed {
            self.send_signal(index, *number);
        }
        let is_news = |run: &super::runs::Run| {
            run.signals_sent > open.signals_sent || !run.signal_slots.is_empty()
        };
        if self.runs.get(index).is_some_and(is_news) {
            self.record_sent(index);
        }
    }

    /// The slots of signals whose records are on disk say nothing more.
    pub(super) fn free_signal_slots(&mut self) {
        while let Some(slot) = self.pending.next_signal_slot() {
            self.shared.live.free_slot(slot);
        }
    }
}
