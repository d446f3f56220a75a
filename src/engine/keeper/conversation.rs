//! The keeper's conversation with its runner: starting one, welcoming it, reports out, batches in,
//! and what to do when it dies.
//!
//! A runner is welcomed with what its predecessors left: what is on disk it replays, the rest it is
//! told. Nothing here decides; a batch's commands are carried out elsewhere.

use std::os::fd::{AsFd, AsRawFd};

use nix::{
    errno::Errno,
    sys::{
        epoll::{EpollEvent, EpollFlags},
        socket::{MsgFlags, send},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};
use rustix::process::{Signal, pidfd_send_signal};

use super::{
    batch,
    keeper::{Keeper, LEAVE_US, Token},
    runner_link::Runner,
    runner_process::{OWN_IMAGE, RunnerProcess, exec_runner},
    tasks::KeptTask,
};
use crate::{
    engine::ipc::{DISTRUST, Holder, LinkBuffer, LinkError, frame_message, messages},
    protocols::dewar::{link as wire, link::command::Kind as Order},
    sys::{clock::now, process, retry::again},
};

impl Runner {
    /// Reads what is there; false when nothing will come any more.
    fn receive(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        loop {
            match nix::unistd::read(&self.process.link, &mut chunk) {
                Ok(0) => return false,
                Ok(count) => self.inbox.extend(&chunk[..count]),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return true,
                Err(errno) => {
                    tracing::warn!("reading from the runner: {errno}");
                    return false;
                }
            }
        }
    }

    fn batches(&mut self) -> Result<Vec<wire::Batch>, LinkError> {
        messages(&mut self.inbox)
    }

    /// Ends it; its pidfd tells when it is dead.
    pub fn kill(&self) {
        if let Err(errno) = pidfd_send_signal(&self.process.pidfd, Signal::KILL) {
            tracing::error!("cannot kill the runner: {errno}");
        }
    }

    /// A large batch must not cost memory for ever.
    pub fn shrink_to_fit(&mut self) {
        self.inbox.shrink_to_fit();
        self.outbox.shrink_to_fit();
    }
}

impl Keeper {
    pub(super) fn start_runner(&mut self) {
        self.runner_due = None;
        /// After so many broken links in a row it is the program that is broken.
        const BROKEN: u32 = 2;
        let shared = &self.shared;
        // The keeper's own image speaks as the keeper does, whatever its file was replaced by.
        let executable = match self.broken_links {
            0..BROKEN => &shared.executable,
            BROKEN.. => OWN_IMAGE,
        };
        let started = exec_runner(
            shared.runner,
            executable,
            &shared.listener,
            &shared.directory,
        )
        .map_err(|error| error.to_string())
        .and_then(|process| self.adopt_runner(process));
        if let Err(error) = started {
            tracing::error!("cannot start a runner: {error}");
            // One that cannot even be started died as young as can be.
            self.young_deaths += 1;
            self.runner_again();
        }
    }

    /// Welcomes a runner: it replays the journal, which must hold all that is known by then.
    pub(super) fn adopt_runner(&mut self, process: RunnerProcess) -> Result<(), String> {
        let ticks = process::stat(process.pid).map_or(0, |stat| stat.start_ticks);
        let live = &self.shared.live;
        live.set_holder(Holder::Runner, process.pid as u32, ticks);
        self.watch(process.link.as_fd(), Token::Link.number(0))
            .and_then(|()| self.watch(process.pidfd.as_fd(), Token::Runner.number(0)))
            .map_err(|error| error.to_string())?;
        self.runner = Some(Runner {
            process,
            inbox: LinkBuffer::default(),
            outbox: Vec::new(),
            writable: true,
            born: now().boot_us,
            is_broken: false,
            leave_by: None,
        });
        // Reports that the last runner did not answer are answered by the replay.
        self.answered = 0;
        self.reports = 0;
        // One look at the writer: what is on disk by now is replayed, the rest is told.
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
        self.report = wire::Report {
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
            unlaunched: self
                .unlaunched
                .iter()
                .map(|key| wire::Unlaunched {
                    process: key.process,
                    run: key.run,
                    task: key.task,
                })
                .collect(),
            held: self.shared.held(),
            ..wire::Report::default()
        };
        Ok(())
    }

    pub(super) fn send_report(&mut self) {
        let report = &self.report;
        let is_news = !report.records.is_empty()
            || !report.empty.is_empty()
            || !report.journals.is_empty()
            || !report.probed.is_empty()
            || report.journal_failed.is_some();
        let Some(runner) = &mut self.runner else {
            return;
        };
        if is_news || report.durable > 0 {
            self.reports += 1;
            self.report.number = self.reports;
            if is_news {
                self.to_answer = self.reports;
            }
            let report = std::mem::take(&mut self.report);
            if !runner.is_broken {
                runner.outbox.extend(frame_message(&report));
            }
        }
        self.send_out();
    }

    fn send_out(&mut self) {
        let Some(runner) = self.runner.as_mut().filter(|runner| !runner.is_broken) else {
            return;
        };
        while !runner.outbox.is_empty() {
            let fd = runner.process.link.as_raw_fd();
            match send(fd, &runner.outbox, MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => {
                    runner.outbox.drain(..count);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                // It died: its pidfd tells, and the next one replays.
                Err(_) => {
                    runner.outbox.clear();
                }
            }
        }
        let writable = runner.outbox.is_empty();
        if writable != runner.writable {
            runner.writable = writable;
            let mut interest = EpollFlags::EPOLLIN;
            interest.set(EpollFlags::EPOLLOUT, !writable);
            let mut event = EpollEvent::new(interest, Token::Link.number(0));
            if let Err(errno) = self.epoll.modify(&runner.process.link, &mut event) {
                tracing::warn!("epoll: {errno}");
            }
        }
    }

    pub(super) fn hear(&mut self, events: EpollFlags) {
        if events.contains(EpollFlags::EPOLLOUT) {
            self.send_out();
        }
        let Some(runner) = &mut self.runner else {
            return;
        };
        let is_open = runner.receive();
        match runner.batches() {
            Ok(batches) => {
                for batch in batches {
                    if let Err(error) = batch::check(&batch, self.reports) {
                        return self.replace_runner(&error);
                    }
                    self.carry_out(batch);
                }
            }
            Err(error) => return self.replace_runner(&error),
        }
        if !is_open {
            self.link_closed();
        }
    }

    /// The runner closed its end. It is leaving, and its pidfd tells when it has; one that stays
    /// will never say anything again.
    fn link_closed(&mut self) {
        let Some(runner) = &mut self.runner else {
            return;
        };
        runner.leave_by = Some(now().boot_us + LEAVE_US);
        if let Err(errno) = self.epoll.delete(&runner.process.link) {
            tracing::debug!("epoll: {errno}");
        }
    }

    /// What the runner says cannot be used. It is killed; its successor replays the journal, which is
    /// as it was.
    fn replace_runner(&mut self, error: &LinkError) {
        let Some(runner) = &mut self.runner else {
            return;
        };
        let pid = runner.process.pid;
        tracing::error!("the link to the runner (pid {pid}) is broken: {error}; replacing it");
        runner.is_broken = true;
        runner.outbox.clear();
        runner.kill();
        if let Err(errno) = self.epoll.delete(&runner.process.link) {
            tracing::debug!("epoll: {errno}");
        }
    }

    fn carry_out(&mut self, mut batch: wire::Batch) {
        self.answered = self.answered.max(batch.answers);
        // A journal begins before anything is noted in it.
        for command in &mut batch.commands {
            if let Some(Order::Open(open)) = &mut command.kind {
                let open = std::mem::take(open);
                self.open(command.task, open);
                command.kind = None;
            }
        }
        for note in batch.notes {
            if let Some(record) = note.record {
                self.record_at(note.task, record);
            }
        }
        for command in batch.commands {
            if let Some(kind) = command.kind {
                self.take_command(command.task, kind);
            }
        }
    }

    pub(super) fn runner_died(&mut self) {
        let Some(runner) = self.runner.take() else {
            return;
        };
        self.unwatch(runner.process.pidfd.as_fd());
        self.children_changed = true;
        if self.leave_by.is_some() {
            return;
        }
        if exit_code(runner.process.pid) == Some(i32::from(DISTRUST)) {
            return self.distrusted();
        }
        match runner.is_broken {
            true => self.broken_links += 1,
            false => self.broken_links = 0,
        }
        const YOUNG_US: u64 = 1_000_000;
        if now().boot_us - runner.born < YOUNG_US {
            self.young_deaths += 1;
        } else {
            self.young_deaths = 0;
        }
        tracing::warn!("the runner (pid {}) died", runner.process.pid);
        self.runner_again();
    }

    /// The journal does not say any more what runs: nothing may.
    fn distrusted(&mut self) {
        tracing::error!("the journal cannot be trusted: killing everything and leaving");
        self.failed
            .get_or_insert_with(|| "it cannot be trusted".to_owned());
        self.end_all();
        self.is_leaving = true;
    }

    /// At once the first time; then with growing pauses, so that a runner that cannot live does
    /// not eat the machine.
    fn runner_again(&mut self) {
        const PAUSE_US: u64 = 50_000;
        const LONGEST_US: u64 = 5_000_000;
        let pause = match self.young_deaths {
            0 | 1 => 0,
            deaths => (PAUSE_US << deaths.min(10)).min(LONGEST_US),
        };
        self.runner_due = Some(now().boot_us + pause);
    }
}

/// The exit code of a child that is dead; it is reaped.
fn exit_code(pid: i32) -> Option<i32> {
    let id = || Id::Pid(Pid::from_raw(pid));
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    match again(|| waitid(id(), flags)) {
        Ok(WaitStatus::Exited(_, code)) => Some(code),
        _ => None,
    }
}
