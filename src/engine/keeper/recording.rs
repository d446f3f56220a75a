//! What the keeper writes: records of its tasks, what follows when they are on disk, and what when
//! they cannot be written.

use super::{
    keeper::{Keeper, LAZY_US, LEAVE_US},
    tasks::KeptTask,
};
use crate::{
    engine::ipc::{Key, SOCKET},
    journal::{Closed, Cover, Header, Kind, Notice, Record, Tenure},
    protocols::dewar::link as wire,
    sys::{clock::now, process},
};

impl Keeper {
    pub(super) fn begin_journal(&mut self, task: u32, header: Header, cover: Cover) {
        self.record(task, Kind::Header(header));
        self.begin_tenure(task, cover);
    }

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

    pub(super) fn record_at(&mut self, task: u32, record: Record) -> u64 {
        if self.tasks.get(task).is_none() {
            tracing::error!("a record for task {task}, which is closed: {record:?}");
            return self.pushed;
        }
        self.report.records.push(wire::Numbered {
            seq: self.pushed + 1,
            record: Some(record.clone()),
            task,
        });
        self.pushed = self.writer.push(task, record);
        let by = now().boot_us + LAZY_US;
        self.flush_by = Some(self.flush_by.map_or(by, |before| before.min(by)));
        self.pushed
    }

    /// Something that a person should know of a run.
    pub(super) fn notice(&mut self, text: String, key: Key) {
        self.notice_of(key.task, text, Some(key));
    }

    /// Something that a person should know of a task.
    pub(super) fn notice_of(&mut self, task: u32, text: String, key: Option<Key>) {
        tracing::info!("{text}");
        let notice = Notice {
            text,
            process: key.map(|key| key.process),
            run: key.map(|key| key.run),
        };
        self.record(task, Kind::Notice(notice));
    }

    /// Something waits for what was just recorded: do not wait for the runner's answer.
    pub(super) fn hurry(&mut self) {
        self.urgent = true;
    }

    pub(super) fn progressed(&mut self) {
        let progress = self.writer.progress();
        if let Some(error) = progress.error
            && self.failed.is_none()
        {
            self.journal_failed(error);
        }
        if progress.durable > self.durable {
            self.durable = progress.durable;
            self.report.durable = progress.durable;
        }
        self.confirm_dens();
        self.open_gates();
        self.free_slots();
        self.collect_reaps();
        let (durable, failed) = (self.durable, self.failed.is_some());
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
        self.report.journal_failed = Some(error);
        // What waits for the disk will wait for ever; killing must not.
        self.end_all();
    }

    /// Kills everything of all tasks, and tells when that is done.
    pub(super) fn end_all(&mut self) {
        self.deferred.clear();
        self.gates.clear();
        let all: Vec<u32> = self.tasks.iter().map(|(task, _)| task).collect();
        for task in all {
            self.kill_everything(task);
            if let Some(kept) = self.tasks.get_mut(task) {
                kept.awaiting_empty = true;
            }
        }
    }

    pub(super) fn close(&mut self, task: u32) {
        if task > 0 {
            self.record(0, Kind::Closed(Closed { task }));
        }
        if let Some(kept) = self.tasks.get_mut(task) {
            kept.closing = Some(self.pushed);
        }
        self.kill_den(task);
        self.hurry();
        if self.durable >= self.pushed || self.failed.is_some() {
            self.progressed();
        }
    }

    /// Nobody will answer any more: whoever looks from now on reads the journal.
    pub(super) fn stop_listening(&self) {
        let flags = nix::unistd::UnlinkatFlags::NoRemoveDir;
        if let Err(errno) = nix::unistd::unlinkat(&self.shared.directory, SOCKET, flags) {
            tracing::warn!("cannot remove the socket: {errno}");
        }
    }

    /// Number of the last record, on disk or not.
    pub(super) fn last_record(&self) -> u64 {
        self.pushed
    }

    pub(super) fn has_undurable(&self) -> bool {
        self.pushed > self.durable
    }
}
