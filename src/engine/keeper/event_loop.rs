//! The keeper's loop: wait, take in what happened, carry out what is due, report, sync.
//!
//! Invariants: this thread never waits for the disk or for a reader of output; a gate opens, a
//! signal is sent and a zombie is reaped only when the records before them are on disk.

use nix::{
    errno::Errno,
    sys::epoll::{EpollEvent, EpollTimeout},
};

use super::{
    keeper::{Keeper, SETTLE_MS, Token},
    output::PumpEvent,
    runs::Phase,
};
use crate::sys::{clock::now, memory::trim_code};

impl Keeper {
    /// Runs until the task is over.
    ///
    /// # Errors
    /// A message, when the keeper cannot go on; its successor will.
    pub fn run(mut self) -> Result<(), String> {
        if self.runner.is_none() {
            self.start_runner();
        }
        let mut events = [EpollEvent::empty(); 64];
        loop {
            self.settle()?;
            if self.is_over() {
                self.remove_all_groups();
                return Ok(());
            }
            let mut found = self.epoll.wait(&mut events, self.timeout());
            if found == Ok(0) && self.is_restless && self.due().is_none() {
                self.is_restless = false;
                self.give_back();
                // At once: whatever runs after that comes back into memory.
                found = self.epoll.wait(&mut events, EpollTimeout::NONE);
            }
            let count = match found {
                Ok(count) => {
                    self.is_restless |= count > 0;
                    count
                }
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(format!("epoll: {errno}")),
            };
            for event in &events[..count] {
                self.dispatch(*event)?;
            }
        }
    }

    fn dispatch(&mut self, event: EpollEvent) -> Result<(), String> {
        match Token::of(event.data()) {
            Some((Token::Signal, _)) => {
                // Only a wake-up: who it was about is found by waitid.
                self.take_signals();
                self.children_changed = true;
            }
            Some((Token::Link, _)) => self.hear(event.events()),
            Some((Token::Runner, _)) => self.runner_died(),
            Some((Token::Writer, _)) => self.progressed(),
            Some((Token::Pump, _)) => self.pumped(),
            Some((Token::Stray, index)) => self.stray_died(index),
            Some((Token::Exit, index)) => self.first_process_died(index),
            Some((Token::Gate, index)) => self.gate_spoke(index),
            Some((Token::Root, _)) => self.root_died(),
            Some((Token::Probe, index)) => self.probe_died(index),
            Some((Token::InitProcess, serial)) => self.den_died(serial),
            Some((Token::Orphan, pid)) => self.orphan_died(pid as i32),
            Some((Token::Memory, index)) => self.memory_spoke(index),
            None => return Err("an event that nobody asked for".to_owned()),
        }
        Ok(())
    }

    /// Takes the pending SIGCHLDs; true when there was one.
    pub(super) fn take_signals(&self) -> bool {
        let mut some = false;
        while matches!(self.signals.read_signal(), Ok(Some(_))) {
            some = true;
        }
        some
    }

    /// Carries out what is due, tells the runner, and starts a sync when somebody waits for one.
    fn settle(&mut self) -> Result<(), String> {
        let clock = now().boot_us;
        if self.runner_due.is_some_and(|due| due <= clock) {
            self.start_runner();
        }
        self.end_drained(clock);
        self.end_overdue_probes(clock);
        self.look_at_memory(clock);
        self.launch_queued();
        self.run_deferred();
        self.look_after_children();
        self.send_report();
        let waited_for =
            self.urgent || (self.flush_by.is_some() && self.answered >= self.to_answer);
        if self.flush_by.is_some_and(|by| waited_for || by <= clock) {
            self.flush_by = None;
            self.urgent = false;
            self.writer.flush();
        }
        if self.leave_by.is_some_and(|by| by <= clock)
            && let Some(runner) = self.runner.take()
        {
            tracing::warn!("the runner did not leave; killing it");
            runner.kill();
        }
        if let Some(runner) = &mut self.runner
            && runner.leave_by.is_some_and(|by| by <= clock)
        {
            tracing::warn!("the runner closed its link and did not leave; killing it");
            runner.leave_by = None;
            runner.kill();
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let said_goodbye = self.leave_by.is_some() && self.runner.is_none();
        let said_goodbye = said_goodbye && !self.has_dens();
        said_goodbye || (self.is_leaving && !self.awaits_emptiness())
    }

    /// Returns the memory that a busy time took.
    fn give_back(&mut self) {
        self.deferred.shrink_to_fit();
        self.gates.shrink_to_fit();
        self.slots.shrink_to_fit();
        self.reaps.shrink_to_fit();
        self.queued.shrink_to_fit();
        self.writer.shrink_to_fit();
        if let Some(runner) = &mut self.runner {
            runner.shrink_to_fit();
        }
        trim_code();
    }

    /// When something has to be done although nothing happens.
    fn due(&self) -> Option<u64> {
        let drains = self.runs.iter().filter_map(|(_, run)| match run.phase {
            Phase::Draining { until } => Some(until),
            _ => None,
        });
        drains
            .chain(self.flush_by)
            .chain(self.runner_due)
            .chain(self.memory_looks.iter().map(|(at, _)| *at))
            .chain(self.leave_by.filter(|_| self.runner.is_some()))
            .chain(self.runner.as_ref().and_then(|runner| runner.leave_by))
            .chain(self.probe_due())
            .min()
    }

    fn timeout(&self) -> EpollTimeout {
        match self.due() {
            None if self.is_restless => EpollTimeout::from(SETTLE_MS),
            None => EpollTimeout::NONE,
            Some(at) => {
                let ms = at.saturating_sub(now().boot_us).div_ceil(1000);
                EpollTimeout::from(u16::try_from(ms).unwrap_or(u16::MAX))
            }
        }
    }

    fn awaits_emptiness(&self) -> bool {
        self.tasks.iter().any(|(_, kept)| kept.awaiting_empty)
    }

    fn pumped(&mut self) {
        let Some(pump) = &self.pump else { return };
        for event in pump.events() {
            match event {
                PumpEvent::Finished(key) => self.output_finished(key),
                PumpEvent::Dropped { key, stream, bytes } => {
                    let text =
                        format!("{bytes} bytes of {stream} could not be written and are lost");
                    self.notice(text, key);
                }
            }
        }
    }
}
