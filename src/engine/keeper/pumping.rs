//! Output that goes through the pump: handed over at a launch, read on after a keeper's death, over
//! when it is in its files.

use std::os::fd::AsFd;

use super::{
    keeper::Keeper,
    output::{Part, Pump, PumpEvent, Stream},
    poller::Token,
    spawn::reopen,
};
use crate::{engine::ipc::Key, protocols::dewar::link as wire};

impl Keeper {
    /// Starts the pump, unless it is there.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn need_pump(&mut self) -> std::io::Result<()> {
        if self.pump.is_none() {
            let pump = Pump::start(self.shared.fd_sender.clone())?;
            self.poller.watch(pump.event(), Token::Pump, 0)?;
            self.pump = Some(pump);
        }
        Ok(())
    }

    /// Hands the output of a run to the pump.
    pub(super) fn pump_streams(&mut self, key: Key, streams: Vec<Stream>) {
        if let Err(error) = self.need_pump() {
            return self.notice(format!("output is not read: {error}"), key);
        }
        if let Some(fd_sender) = &self.shared.fd_sender {
            for stream in &streams {
                fd_sender.put(stream.slot, Part::Source, stream.source.as_fd());
            }
        }
        let added = self.pump.as_ref().map(|pump| pump.add(streams));
        if let Some(Err(error)) = added {
            self.notice(format!("output is not read: {error}"), key);
        }
    }

    /// A dead keeper's pipes are found again in the processes that write to them. Theirs can be
    /// told from pipes of the user's own making: only ours are open for reading and writing.
    pub(super) fn read_output(&mut self, task: u32, command: &wire::Launch) {
        let key = Key::of(task, command);
        let index = self.runs.find(key);
        let run = index.and_then(|index| self.runs.get(index));
        let is_held = self.shared.holds(key);
        // What was held for it is read also when it is over.
        let pid = match run {
            Some(run) if !run.pumped || is_held => run.pid,
            None if is_held => 0,
            _ => return,
        };
        match reopen(key, command, pid, &mut self.shared.pipes) {
            Ok(streams) if streams.is_empty() => {}
            Ok(streams) => {
                if let Some(run) = index.and_then(|index| self.runs.get_mut(index)) {
                    run.pumped = true;
                }
                self.pump_streams(key, streams);
            }
            Err(error) => {
                let text = format!("its output is not read any more: {error}");
                self.notice(text, key);
            }
        }
    }

    /// Takes in what the pump tells.
    pub(super) fn take_pump_events(&mut self) {
        let Some(pump) = &self.pump else { return };
        for event in pump.events() {
            match event {
                PumpEvent::Finished(key) => {
                    self.output_finished(key);
                    self.children_changed |= self.tasks.last_output_due().is_some();
                }
                PumpEvent::Dropped { key, stream, bytes } => {
                    let text =
                        format!("{bytes} bytes of {stream} could not be written and are lost");
                    self.notice(text, key);
                }
            }
        }
    }
}
