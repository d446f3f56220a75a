//! What waits for the disk: records that were pushed, and what may follow once they are durable.
//!
//! Records of all journals are counted together. A gate opens, a signal is sent, a slot is freed
//! and a zombie is reaped only when the record before it is on disk; each of these queues is in
//! the order of the records. This file counts; it writes nothing and does nothing of what waits.

use std::collections::VecDeque;

use crate::protocols::dewar::link::command::Kind as Command;

/// How long a record that nothing waits for may stay in memory, microseconds.
const LAZY_US: u64 = 10_000;

/// The records on their way to the disk, and what waits for them.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The number of the last record.
    pushed: u64,
    /// The number of the last record on disk.
    durable: u64,
    /// When what was pushed has to be flushed at the latest.
    flush_by: Option<u64>,
    /// Something waits for what was pushed.
    urgent: bool,
    /// What was pushed is flushed when the runner has answered: its answer may bring more.
    is_eager: bool,
    /// Commands of the runner, each with its task.
    commands: VecDeque<(u64, u32, Command)>,
    /// Runs whose gates are to be opened.
    gates: VecDeque<(u64, usize)>,
    /// Runs whose slots are to be freed.
    slots: VecDeque<(u64, usize)>,
    /// Slots that say of signals that they were sent, until records do.
    signal_slots: VecDeque<(u64, usize)>,
    /// Runs that are to be reaped.
    reaps: VecDeque<(u64, usize)>,
}

impl Pending {
    /// The number of the last record, on disk or not.
    pub fn last(&self) -> u64 {
        self.pushed
    }

    /// The number of the last record on disk.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// True while a record is not on disk.
    pub fn has_undurable(&self) -> bool {
        self.pushed > self.durable
    }

    /// Record `seq` was handed to the writer at `clock`. A calm one is never the reason for a sync
    /// of its own: it goes with what follows, or when it is due.
    pub fn pushed(&mut self, seq: u64, is_calm: bool, clock: u64) {
        self.pushed = seq;
        self.is_eager |= !is_calm;
        let by = clock + LAZY_US;
        self.flush_by = Some(self.flush_by.map_or(by, |before| before.min(by)));
    }

    /// All records up to `seq` are on disk; false when that was known.
    pub fn reached(&mut self, seq: u64) -> bool {
        let is_news = seq > self.durable;
        self.durable = self.durable.max(seq);
        is_news
    }

    /// Something waits for what was just pushed: the flush does not wait for the runner's answer.
    pub fn hurry(&mut self) {
        self.urgent = true;
    }

    /// When a flush is due.
    pub fn flush_by(&self) -> Option<u64> {
        self.flush_by
    }

    /// True when a flush is to be made now: it is awaited, the runner has answered, or it is due.
    pub fn take_flush(&mut self, is_answered: bool, clock: u64) -> bool {
        let is_awaited = self.urgent || (self.is_eager && is_answered);
        let is_due = self.flush_by.is_some_and(|by| is_awaited || by <= clock);
        if is_due {
            self.flush_by = None;
            self.urgent = false;
            self.is_eager = false;
        }
        is_due
    }

    /// A command that waits for all that was pushed, and for the commands before it.
    pub fn defer(&mut self, task: u32, command: Command) {
        self.commands.push_back((self.pushed, task, command));
        self.hurry();
    }

    /// True while commands wait.
    pub fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// The next command that need not wait any longer.
    pub fn next_command(&mut self) -> Option<(u32, Command)> {
        let (seq, ..) = self.commands.front()?;
        if *seq > self.durable {
            return None;
        }
        let (_, task, command) = self.commands.pop_front()?;
        Some((task, command))
    }

    /// The gate of a run opens when its start is on disk.
    pub fn open_gate_after(&mut self, start: u64, index: usize) {
        self.gates.push_back((start, index));
    }

    /// The next run whose start is on disk, and that record.
    pub fn next_gate(&mut self) -> Option<(u64, usize)> {
        next(&mut self.gates, self.durable)
    }

    /// The slot of a run is freed when its exec is on disk.
    pub fn free_slot_after(&mut self, exec: u64, index: usize) {
        self.slots.push_back((exec, index));
    }

    /// The next run whose exec is on disk, and that record.
    pub fn next_slot(&mut self) -> Option<(u64, usize)> {
        next(&mut self.slots, self.durable)
    }

    /// A slot of a signal is freed when the record that says the same is on disk.
    pub fn free_signal_slot_after(&mut self, sent: u64, slot: usize) {
        self.signal_slots.push_back((sent, slot));
    }

    /// The next slot of a signal whose record is on disk.
    pub fn next_signal_slot(&mut self) -> Option<usize> {
        next(&mut self.signal_slots, self.durable).map(|(_, slot)| slot)
    }

    /// A run is reaped when its end is on disk.
    pub fn reap_after(&mut self, end: u64, index: usize) {
        self.reaps.push_back((end, index));
    }

    /// The next run whose end is on disk; with `waits` false, the next one whatever is on disk.
    pub fn next_reap(&mut self, waits: bool) -> Option<usize> {
        let durable = if waits { self.durable } else { u64::MAX };
        next(&mut self.reaps, durable).map(|(_, index)| index)
    }

    /// Nothing more is started or signalled: everything is being killed.
    pub fn forget_effects(&mut self) {
        self.commands.clear();
        self.gates.clear();
    }

    /// Gives back what a busy time took.
    pub fn shrink_to_fit(&mut self) {
        self.commands.shrink_to_fit();
        self.gates.shrink_to_fit();
        self.slots.shrink_to_fit();
        self.reaps.shrink_to_fit();
    }
}

fn next(queue: &mut VecDeque<(u64, usize)>, durable: u64) -> Option<(u64, usize)> {
    let (seq, _) = queue.front()?;
    match *seq <= durable {
        true => queue.pop_front(),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::dewar::link as wire;

    #[test]
    fn nothing_happens_before_its_record_is_on_disk() {
        let mut pending = Pending::default();
        pending.pushed(1, false, 0);
        pending.open_gate_after(1, 7);
        pending.pushed(2, false, 0);
        pending.defer(0, Command::KillAll(wire::KillAll {}));
        assert_eq!(pending.next_gate(), None);
        assert!(pending.reached(1));
        assert!(!pending.reached(1), "it was known");
        assert_eq!(pending.next_gate(), Some((1, 7)));
        assert_eq!(pending.next_command(), None);
        pending.reached(2);
        assert!(pending.next_command().is_some());
        assert!(!pending.has_undurable() && !pending.has_commands());
    }

    #[test]
    fn a_flush_waits_for_an_answer_unless_something_waits_for_it() {
        let mut pending = Pending::default();
        assert!(!pending.take_flush(true, 0), "there is nothing to flush");
        pending.pushed(1, false, 100);
        assert!(!pending.take_flush(false, 100));
        assert!(pending.take_flush(false, 100 + LAZY_US));
        pending.pushed(2, false, 200);
        assert!(pending.take_flush(true, 200));
        pending.pushed(3, false, 300);
        pending.hurry();
        assert!(pending.take_flush(false, 300));
        assert!(!pending.take_flush(false, u64::MAX));
    }

    #[test]
    fn a_calm_record_goes_with_what_follows_or_when_it_is_due() {
        let mut pending = Pending::default();
        pending.pushed(1, true, 100);
        assert!(!pending.take_flush(true, 100), "an answer is no reason");
        assert!(pending.take_flush(true, 100 + LAZY_US));
        pending.pushed(2, true, 200);
        pending.pushed(3, false, 300);
        assert!(!pending.take_flush(false, 300));
        assert!(pending.take_flush(true, 300), "one flush for both");
        assert_eq!(pending.flush_by(), None);
        pending.pushed(4, true, 400);
        assert!(!pending.take_flush(true, 400), "it is calm again");
        pending.hurry();
        assert!(pending.take_flush(false, 400), "something waits for it");
    }

    #[test]
    fn a_journal_that_cannot_be_written_keeps_no_zombies() {
        let mut pending = Pending::default();
        pending.reap_after(1, 7);
        assert_eq!(pending.next_reap(true), None);
        assert_eq!(pending.next_reap(false), Some(7));
    }
}
