//! What the runner may ask for: launch, stop, kill, say when nothing is left, close.
//!
//! A start is done at most once per (process, run), so a new runner may repeat what it wants.
//! Signals wait until the notes before them are on disk, unless no process is there to be
//! signalled.

use super::{journals::new_journal, keeper::Keeper, launch_queue::Waiting};
use crate::{
    engine::ipc::Key,
    journal::{Cover, How, Kind, Lost, Opened},
    protocols::dewar::{link as wire, link::command::Kind as Command},
};

impl Keeper {
    /// Carries out a command of the runner, now or when the records before it are on disk.
    pub(super) fn take_command(&mut self, task: u32, command: Command) {
        let is_signal = matches!(
            command,
            Command::StopAll(_)
                | Command::KillAll(_)
                | Command::KillRun(_)
                | Command::StopRun(_)
                | Command::SignalRun(_)
        );
        if matches!(command, Command::StopAll(_) | Command::KillAll(_)) {
            // Launching no more is no effect: it need not wait.
            self.runs.queue.forget(task);
        }
        let mut must_wait = is_signal && self.pending.has_undurable();
        if must_wait {
            must_wait = !self.nothing_left(task);
            // That look has taken the signals which would have caused the next one.
            self.children_changed = true;
        }
        if must_wait || self.pending.has_commands() {
            self.pending.defer(task, command);
        } else {
            self.execute(task, command);
        }
    }

    /// Commands whose records are on disk are carried out.
    pub(super) fn run_deferred(&mut self) {
        while let Some((task, command)) = self.pending.next_command() {
            self.execute(task, command);
        }
    }

    fn execute(&mut self, task: u32, command: Command) {
        let key = |process, run| Key { task, process, run };
        match command {
            Command::Open(open) => self.open(task, open),
            Command::Probe(probe) => self.check_health(task, probe),
            Command::Launch(launch) => self.runs.queue.add(task, Waiting::Run(launch)),
            Command::Abandon(run) => self.abandon(key(run.process, run.run)),
            Command::StopAll(stop) => self.stop_everything(task, &stop.signals),
            Command::StopRun(run) => self.stop_run(key(run.process, run.run), run.signal),
            Command::SignalRun(run) => self.signal_run(key(run.process, run.run), run.signal),
            Command::TellLingering(tell) => self.tell_lingering(task, &tell.prospect),
            Command::Compact(compact) => self.compact(task, compact),
            Command::KillRun(run) => self.kill_run(key(run.process, run.run)),
            Command::KillAll(_) => self.kill_everything(task),
            Command::AwaitEmpty(_) => {
                // What is waited for is that nothing is left; nothing may begin meanwhile.
                self.runs.queue.forget(task);
                if let Some(kept) = self.tasks.get_mut(task) {
                    kept.awaiting_empty = true;
                }
                self.children_changed = true;
            }
            Command::Close(_) => self.close(task),
            Command::ReadOutput(launch) => self.read_output(task, &launch),
        }
    }

    /// Begins the journal of a new task. One that is open already was begun by an earlier runner.
    pub(super) fn open(&mut self, task: u32, open: wire::Open) {
        let Some(header) = open.header else { return };
        if self.tasks.get(task).is_some() || self.failed.is_some() {
            return;
        }
        let begun = new_journal(&open.directory);
        self.keep(task, open.directory.clone(), &header);
        match begun {
            Ok((journal, also)) => {
                self.writer.add(task, journal, 0, also);
                let directory = open.directory;
                self.record(0, Kind::Opened(Opened { task, directory }));
                self.begin_journal(task, header, Cover::Whole);
            }
            Err(error) => {
                let message = format!("cannot begin a journal in {}: {error}", open.directory);
                self.journal_failed(message);
            }
        }
    }

    /// The writer puts the snapshot in place when it comes to it; until then the journal is as it
    /// was.
    fn compact(&mut self, task: u32, compact: wire::Compact) {
        if let (Some(snapshot), None) = (compact.snapshot, &self.failed) {
            self.writer.compact(task, snapshot);
        }
    }

    /// A run that never passed its gate is not wanted any more.
    fn abandon(&mut self, key: Key) {
        if self.runs.take_unlaunched(key) {
            let reason = "it never passed its gate and is not wanted any more".to_owned();
            self.record_end(key, How::Lost(Lost { reason }));
        }
    }
}
