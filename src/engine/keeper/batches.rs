//! What the runner sends: batches of notes and commands, read from the link and taken in.
//!
//! A batch is believed as a whole or not at all (`batch_check`). Its notes go to the journal
//! before its commands are carried out (`commands`). A link that breaks costs the runner and
//! nothing else.

use nix::sys::epoll::EpollFlags;

use super::keeper::Keeper;
use crate::{
    engine::ipc::LinkError,
    journal::Kind as Note,
    protocols::dewar::{link as wire, link::command::Kind as Command},
    sys::clock::now,
};

impl Keeper {
    /// Takes in what the runner sent, and sends it what did not go out before.
    pub(super) fn read_batches(&mut self, events: EpollFlags) {
        if events.contains(EpollFlags::EPOLLOUT) {
            self.link.send_rest(&self.poller);
        }
        if let Err(error) = self.take_batches() {
            self.link.break_off(&self.poller, &error);
        }
    }

    fn take_batches(&mut self) -> Result<(), LinkError> {
        let received = self.link.receive(now().boot_us)?;
        for batch in received.batches {
            self.link.believe(&batch, &self.tasks.needed())?;
            self.take_batch(batch);
        }
        if !received.is_open {
            self.link.closed(&self.poller, now().boot_us);
        }
        Ok(())
    }

    fn take_batch(&mut self, mut batch: wire::Batch) {
        // A newer runner may ask for what this keeper does not know: it is told so.
        for (index, command) in batch.commands.iter().enumerate() {
            if command.kind.is_none() {
                tracing::error!("the runner's order {index} is of a kind that is not known here");
                self.link.tell_not_understood(command.task, index as u32);
            }
        }
        // A journal begins before anything is noted in it.
        for command in &mut batch.commands {
            if let Some(Command::Open(open)) = &mut command.kind {
                let open = std::mem::take(open);
                self.open(command.task, open);
                command.kind = None;
            }
        }
        for note in batch.notes {
            if let Some(mut record) = note.record {
                // A successor of this keeper sends what this one has not.
                if let Some(Note::Signal(signal)) = &mut record.kind {
                    signal.is_owed = true;
                }
                self.record_at(note.task, record);
            }
        }
        for command in batch.commands {
            if let Some(kind) = command.kind {
                self.take_command(command.task, kind);
            }
        }
    }
}
