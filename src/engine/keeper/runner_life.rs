//! The lives of runners: each is started, welcomed with what is known, and followed by another
//! when it dies.
//!
//! A runner replays what is on disk and is told the rest. Only a runner that says it of a journal
//! makes the keeper distrust that journal.

use nix::{
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid},
    unistd::Pid,
};

use super::{
    keeper::Keeper,
    runner_process::{RunnerProcess, exec_runner},
    tasks::KeptTask,
};
use crate::{
    engine::ipc::{DISTRUST, Holder, UNFIT},
    journal::Features,
    protocols::dewar::link as wire,
    sys::{clock::now, process, retry::again, zombie},
};

impl Keeper {
    /// Execs a runner; when that fails, tries again later.
    pub(super) fn start_runner(&mut self) {
        let shared = &self.shared;
        let started = exec_runner(
            shared.runner,
            self.link.program(&shared.executable),
            &shared.listener,
            &shared.directory,
        );
        if let Err(error) = started.and_then(|process| self.adopt_runner(process)) {
            tracing::error!("cannot start a runner: {error}");
            self.link.start_failed();
            self.link.start_again(now().boot_us);
        }
    }

    /// Welcomes a runner: it replays the journals up to what is on disk by now, and is told the
    /// rest.
    ///
    /// # Errors
    /// It cannot be watched.
    pub(super) fn adopt_runner(&mut self, process: RunnerProcess) -> std::io::Result<()> {
        let ticks = process::stat(process.pid).map_or(0, |stat| stat.start_ticks);
        let live = &self.shared.live;
        live.set_holder(Holder::Runner, process.pid as u32, ticks);
        // One look at the writer: what is on disk by now is replayed, the rest is told.
        let report = self.first_report();
        self.link
            .welcome(&self.poller, process, ticks, report, now().boot_us)
    }

    fn first_report(&self) -> wire::Report {
        let snapshot = self.writer.snapshot();
        let told = snapshot
            .queue
            .into_iter()
            .map(|(seq, task, record)| wire::Numbered {
                seq,
                record: Some(record),
                task,
            });
        let tasks = self.tasks.iter();
        let is_empty = |kept: &KeptTask| self.failed.is_some() && !kept.awaiting_empty;
        wire::Report {
            journals: tasks
                .clone()
                .map(|(task, kept)| wire::OpenJournal {
                    task,
                    directory: kept.directory.clone(),
                    replay_to: snapshot.counts.get(&task).copied().unwrap_or_default(),
                })
                .collect(),
            records: told.collect(),
            durable: snapshot.durable,
            journal_failed: self.failed.clone(),
            empty: tasks
                .filter(|(_, kept)| is_empty(kept))
                .map(|(task, _)| task)
                .collect(),
            unlaunched: self.runs.unlaunched(),
            held: self.shared.held(),
            can: Features::all().numbers(),
            ..wire::Report::default()
        }
    }

    /// The runner is dead: another one follows, unless the task is over or its journal is not
    /// believed.
    pub(super) fn runner_died(&mut self) {
        let clock = now().boot_us;
        let is_own_image = self.link.is_own_image();
        let Some((pid, start_ticks)) = self.link.take_dead(&self.poller, clock) else {
            return;
        };
        self.children_changed = true;
        if self.leave_by.is_some() {
            return;
        }
        let code = exit_code(pid, start_ticks).and_then(|code| u8::try_from(code).ok());
        match code {
            Some(DISTRUST) if is_own_image => return self.distrust_journal(),
            // Another version may not know what this one wrote: that proves nothing.
            Some(DISTRUST | UNFIT) if !is_own_image => self.link.use_own_image(),
            _ => {}
        }
        tracing::warn!("the runner (pid {pid}) died");
        self.link.start_again(clock);
    }

    /// The journal does not say any more what runs: nothing may.
    fn distrust_journal(&mut self) {
        tracing::error!("the journal cannot be trusted: killing everything and leaving");
        self.failed
            .get_or_insert_with(|| "it cannot be trusted".to_owned());
        self.end_all();
        self.is_leaving = true;
    }
}

/// The exit code of a child that is dead; it is reaped, unless a tracer holds it.
fn exit_code(pid: i32, start_ticks: u64) -> Option<i32> {
    let id = || Id::Pid(Pid::from_raw(pid));
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    match again(|| waitid(id(), flags)) {
        Ok(WaitStatus::Exited(_, code)) => Some(code),
        Ok(WaitStatus::StillAlive) => zombie::wait_status(pid, start_ticks)
            .filter(|status| libc::WIFEXITED(*status))
            .map(|status| libc::WEXITSTATUS(status)),
        _ => None,
    }
}
