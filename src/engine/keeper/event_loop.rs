//! The keeper's loop: wait, take in what happened, carry out what is due, report, sync.
//!
//! Invariants: this thread never waits for the disk or for a reader of output; a gate opens, a
//! signal is sent and a zombie is reaped only when the records before them are on disk.

use nix::{
    errno::Errno,
    sys::epoll::{EpollEvent, EpollTimeout},
};

use super::{error::KeeperError, keeper::Keeper, poller::Token};
use crate::sys::{clock::now, memory::trim_code, restless::SETTLE_US};

/// The pause after which memory is given back, milliseconds.
const SETTLE_MS: u16 = (SETTLE_US / 1000) as u16;

impl Keeper {
    /// Runs until the task is over.
    ///
    /// # Errors
    /// Why the keeper cannot go on; its successor will.
    pub fn run(mut self) -> Result<(), KeeperError> {
        if !self.link.has_runner() {
            self.start_runner();
        }
        let mut events = [EpollEvent::empty(); 64];
        loop {
            self.run_due();
            if self.is_over() {
                self.remove_all_groups();
                return Ok(());
            }
            if self.restless.is_overdue(now().boot_us) {
                self.give_back();
            }
            let mut found = self.poller.wait(&mut events, self.timeout());
            let is_idle = found == Ok(0) && !self.children_changed;
            if is_idle && self.has_paused() {
                self.give_back();
                // At once: whatever runs after that comes back into memory.
                found = self.poller.wait(&mut events, EpollTimeout::NONE);
            }
            let count = match found {
                Ok(0) | Err(Errno::EINTR) => 0,
                Ok(count) => {
                    self.restless.stir(now().boot_us);
                    count
                }
                Err(errno) => return Err(KeeperError::system("epoll")(errno)),
            };
            for event in &events[..count] {
                self.dispatch(*event)?;
            }
        }
    }

    fn dispatch(&mut self, event: EpollEvent) -> Result<(), KeeperError> {
        match Token::of(event.data()) {
            Some((Token::Signal, _)) => {
                // Only a wake-up: waitid finds the child that it was about.
                self.take_signals();
                self.children_changed = true;
            }
            Some((Token::Link, _)) => self.read_batches(event.events()),
            Some((Token::Runner, _)) => self.runner_died(),
            Some((Token::Writer, _)) => self.journal_progressed(),
            Some((Token::Pump, _)) => self.take_pump_events(),
            Some((Token::Stray, index)) => self.stray_died(index),
            Some((Token::Exit, index)) => self.first_process_died(index),
            Some((Token::Gate, index)) => self.gate_closed(index),
            Some((Token::Root, _)) => self.root_died(),
            Some((Token::Script, index)) => self.health_script_died(index),
            Some((Token::Init, serial)) => self.init_died(serial),
            Some((Token::Orphan, pid)) => self.orphan_died(pid as i32),
            Some((Token::Memory, index)) => self.memory_changed(index),
            Some((Token::Group, _)) => self.children_changed = true,
            None => return Err(KeeperError::UnknownEvent),
        }
        Ok(())
    }

    /// Carries out what is due, tells the runner, and starts a sync when something waits for one.
    fn run_due(&mut self) {
        let clock = now().boot_us;
        if self.link.take_start(clock) {
            self.start_runner();
        }
        self.end_drained(clock);
        self.end_overdue_scripts(clock);
        self.look_at_memory(clock);
        self.launch_queued();
        self.run_deferred();
        self.end_held();
        self.look_at_last_output(clock);
        self.look_after_children();
        self.tell_of_held(clock);
        self.link.send_report(&self.poller);
        if self.pending.take_flush(self.link.is_answered(), clock) {
            self.writer.flush();
        }
        if self.leave_by.is_some_and(|by| by <= clock) {
            self.link.kill_last();
        }
        self.link.kill_silent(clock);
        self.link.break_off_unfinished(&self.poller, clock);
    }

    fn is_over(&self) -> bool {
        let said_goodbye = self.leave_by.is_some() && !self.link.has_runner();
        let said_goodbye = said_goodbye && !self.namespaces.has_inits();
        said_goodbye || (self.is_leaving && !self.tasks.awaits_emptiness())
    }

    /// Nothing happened during a wait, and nothing will without an event.
    fn has_paused(&self) -> bool {
        self.restless.is_restless() && self.due().is_none() && !self.may_launch()
    }

    /// Returns the memory that a busy time took.
    fn give_back(&mut self) {
        self.restless.settle();
        self.pending.shrink_to_fit();
        self.runs.shrink_to_fit();
        self.writer.shrink_to_fit();
        self.link.shrink_to_fit();
        trim_code();
    }

    /// When something has to be done although nothing happens.
    fn due(&self) -> Option<u64> {
        let leave_by = self.leave_by.filter(|_| self.link.has_runner());
        self.runs
            .drain_due()
            .into_iter()
            .chain(self.pending.flush_by())
            .chain(self.link.due())
            .chain(self.cgroups.look_due())
            .chain(self.runs.queue.due())
            .chain(leave_by)
            .chain(self.tasks.last_output_due())
            .chain(self.health_scripts.due())
            .chain(self.runs.gate_due())
            .min()
    }

    fn timeout(&self) -> EpollTimeout {
        match self.due() {
            _ if self.may_launch() => EpollTimeout::ZERO,
            // What was to be watched has ended meanwhile.
            _ if self.children_changed => EpollTimeout::ZERO,
            None if self.restless.is_restless() => EpollTimeout::from(SETTLE_MS),
            None => EpollTimeout::NONE,
            Some(at) => {
                let ms = at.saturating_sub(now().boot_us).div_ceil(1000);
                EpollTimeout::from(u16::try_from(ms).unwrap_or(u16::MAX))
            }
        }
    }
}
