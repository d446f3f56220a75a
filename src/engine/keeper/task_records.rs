//! What the keeper writes: records of its tasks, what follows when they are on disk, and what when
//! they cannot be written.

use super::{keeper::Keeper, runner_link::LEAVE_US, tasks::KeptTask};
use crate::{
    engine::ipc::{Key, SOCKET},
    journal::{Closed, Cover, Header, Kind, Notice, Record, Tenure},
    sys::{clock::now, process},
};

impl Keeper {
    /// The first records of a new journal.
    pub(super) fn begin_journal(&mut self, task: u32, header: Header, cover: Cover) {
        self.record(task, Kind::Header(header));
        self.begin_tenure(task, cover);
    }

    /// Records that this process is the keeper from here on.
    pub(super) fn begin_tenure(&mut self, task: u32, cover: Cover) {
        let tenure = Tenure {
            boot_id: process::boot_id(),
            keeper_pid: std::process::id(),
            cover: cover.into(),
        };
        self.record(task, Kind::Tenure(tenure));
    }

    /// Queues a record for the journal of `task`; it is on disk when `durable` reaches the number
    /// that is returned.
    pub(super) fn record(&mut self, task: u32, kind: Kind) -> u64 {
        let record = Record::new(now(), kind);
        self.record_at(task, record)
    }

    /// As [`record`](Self::record), with a time of its own.
    pub(super) fn record_at(&mut self, task: u32, record: Record) -> u64 {
        if self.tasks.get(task).is_none() {
            tracing::error!("a record for task {task}, which is closed: {record:?}");
            return self.pending.last();
        }
        // Nothing waits for the record of an exec: what depends on it has a record of its own.
        let is_calm = matches!(record.kind, Some(Kind::Exec(_)));
        let seq = self.pending.last() + 1;
        self.link.tell_record(seq, task, record.clone());
        let seq = self.writer.push(task, record);
        self.pending.pushed(seq, is_calm, now().boot_us);
        seq
    }

    /// Records what a user should know of a run.
    pub(super) fn notice(&mut self, text: String, key: Key) {
        self.notice_of(key.task, text, Some(key));
    }

    /// Records what a user should know of a task.
    pub(super) fn notice_of(&mut self, task: u32, text: String, key: Option<Key>) {
        self.record_notice(
            task,
            Notice {
                text,
                process: key.map(|key| key.process),
                run: key.map(|key| key.run),
                ..Notice::default()
            },
        );
    }

    /// Records a notice, and tells it in the keeper's own log.
    pub(super) fn record_notice(&mut self, task: u32, notice: Notice) {
        tracing::info!("{}", notice.text);
        self.record(task, Kind::Notice(notice));
    }

    /// The writer has made progress, or has failed: what waited for that follows.
    pub(super) fn journal_progressed(&mut self) {
        let progress = self.writer.progress();
        if let Some(error) = progress.error
            && self.failed.is_none()
        {
            self.journal_failed(error);
        }
        if self.pending.reached(progress.durable) {
            self.link.tell_durable(progress.durable);
        }
        self.namespaces.confirm(self.pending.durable());
        self.open_gates();
        self.free_slots();
        self.free_signal_slots();
        self.collect_reaps();
        let (durable, failed) = (self.pending.durable(), self.failed.is_some());
        let is_closed = |kept: &KeptTask| {
            let is_on_disk = kept.closing.is_some_and(|seq| durable >= seq || failed);
            is_on_disk && !kept.awaiting_empty
        };
        let all = self.tasks.iter();
        let closed: Vec<u32> = all
            .filter(|(_, kept)| is_closed(kept))
            .map(|(task, _)| task)
            .collect();
        for task in closed {
            self.remove_groups(task);
            if task > 0 {
                self.writer.finish(task);
                self.tasks.remove(task);
            } else if self.leave_by.is_none() {
                self.writer.finish(task);
                self.stop_listening();
                self.leave_by = Some(now().boot_us + LEAVE_US);
            }
        }
    }

    /// The record cannot be kept: nothing may run unseen, so everything is killed.
    pub(super) fn journal_failed(&mut self, error: String) {
        self.failed = Some(error.clone());
        self.link.tell_failure(error);
        // What waits for the disk will wait for ever; killing must not.
        self.end_all();
    }

    /// Kills everything of all tasks, and tells when that is done.
    pub(super) fn end_all(&mut self) {
        self.pending.forget_effects();
        for task in self.tasks.numbers() {
            self.kill_everything(task);
            if let Some(kept) = self.tasks.get_mut(task) {
                kept.awaiting_empty = true;
            }
        }
    }

    /// The task is over: its journal takes one last record, if any, and is let go of.
    pub(super) fn close(&mut self, task: u32) {
        if task > 0 {
            self.record(0, Kind::Closed(Closed { task }));
        }
        if let Some(kept) = self.tasks.get_mut(task) {
            kept.closing = Some(self.pending.last());
        }
        self.namespaces.kill(task);
        self.pending.hurry();
        if !self.pending.has_undurable() || self.failed.is_some() {
            self.journal_progressed();
        }
    }

    /// Nothing will answer at the socket any more: a client reads the journal from now on.
    pub(super) fn stop_listening(&self) {
        let flags = nix::unistd::UnlinkatFlags::NoRemoveDir;
        if let Err(errno) = nix::unistd::unlinkat(&self.shared.directory, SOCKET, flags) {
            tracing::warn!("cannot remove the socket: {errno}");
        }
    }
}
