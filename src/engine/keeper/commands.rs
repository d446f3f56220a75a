//! What the runner may ask for: launch, stop, kill, say when nothing is left, close.
//!
//! A start is done at most once per (process, run), so a new runner may repeat what it wants.
//! Signals wait until the notes before them are on disk, unless there is nobody to signal.

use std::os::fd::AsFd;

use super::{
    begin::sync_directories,
    journal_writer::Also,
    keeper::{Keeper, Token},
    output::{Part, Pump},
    runs::{Phase, Run},
    spawn::{Bounds, Launched, launch},
};
use crate::{
    engine::ipc::{JOURNAL, Key, open_directory},
    journal::{
        self, Again, Cover, End, FileStorage, How, Journal, Kind, LaunchFailure, Lost, Opened,
        Start,
    },
    protocols::dewar::{link as wire, link::command::Kind as Command},
    sys::{
        process::{self, Stat},
        retry::again,
        tree::Snapshot,
    },
};
use nix::sys::wait::{Id, WaitPidFlag, waitid};

impl Keeper {
    pub(super) fn take_command(&mut self, task: u32, command: Command) {
        let is_signal = matches!(
            command,
            Command::StopAll(_)
                | Command::KillAll(_)
                | Command::KillRun(_)
                | Command::StopRun(_)
                | Command::SignalRun(_)
        );
        let must_wait = is_signal && self.has_undurable() && !self.nothing_left(task);
        // That look has taken the signals which would have caused the next one.
        self.children_changed = true;
        if must_wait || !self.deferred.is_empty() {
            let seq = self.last_record();
            self.deferred.push_back((seq, task, command));
            self.hurry();
        } else {
            self.execute(task, command);
        }
    }

    pub(super) fn run_deferred(&mut self) {
        while let Some((seq, ..)) = self.deferred.front() {
            if *seq > self.durable {
                break;
            }
            if let Some((_, task, command)) = self.deferred.pop_front() {
                self.execute(task, command);
            }
        }
    }

    fn execute(&mut self, task: u32, command: Command) {
        let key = |process, run| Key { task, process, run };
        match command {
            Command::Open(open) => self.open(task, open),
            Command::Probe(probe) => self.probe(task, probe),
            Command::Launch(launch) => {
                self.queued.push_back((task, launch));
                self.launch_queued();
            }
            Command::Abandon(run) => self.abandon(key(run.process, run.run)),
            Command::StopAll(stop) => self.stop_everything(task, &stop.signals),
            Command::StopRun(run) => self.stop_run(key(run.process, run.run), run.signal),
            Command::SignalRun(run) => self.signal_run(key(run.process, run.run), run.signal),
            Command::TellLingering(tell) => self.tell_lingering(task, &tell.prospect),
            Command::Compact(compact) => self.compact(task, compact),
            Command::KillRun(run) => self.kill_run(key(run.process, run.run)),
            Command::KillAll(_) => self.kill_everything(task),
            Command::AwaitEmpty(_) => {
                if let Some(kept) = self.tasks.get_mut(task) {
                    kept.awaiting_empty = true;
                }
                self.children_changed = true;
            }
            Command::Close(_) => self.close(task),
            Command::ReadOutput(launch) => self.read_output(task, &launch),
        }
    }

    /// Launches what waits, as far as there are slots: more are freed as execs reach the disk.
    pub(super) fn launch_queued(&mut self) {
        while !self.queued.is_empty() && self.shared.live.has_free_slot() {
            if let Some((task, launch)) = self.queued.pop_front() {
                self.launch(task, &launch);
            }
        }
    }

    /// Begins the journal of a new task. One that is open already was begun by an earlier runner.
    pub(super) fn open(&mut self, task: u32, open: wire::Open) {
        let Some(header) = open.header else { return };
        if self.tasks.get(task).is_some() || self.failed.is_some() {
            return;
        }
        let begun = journal_in(&open.directory);
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

    /// The thread that writes does it when it comes to it; until then everything is as it was.
    fn compact(&mut self, task: u32, compact: wire::Compact) {
        if let (Some(snapshot), None) = (compact.snapshot, &self.failed) {
            self.writer.compact(task, snapshot);
        }
    }

    fn launch(&mut self, task: u32, command: &wire::Launch) {
        let key = Key::of(task, command);
        let again = self.unlaunched.remove(&key);
        let next = self.next_run.entry((task, key.process)).or_default();
        if self.failed.is_some() || (!again && key.run < *next) {
            return;
        }
        *next = (*next).max(key.run + 1);
        if let Some(refusal) = &command.refusal {
            return self.launch_failed(key, again, refusal.clone());
        }
        let Some(slot) = self.shared.live.take_slot(key) else {
            return self.launch_failed(key, again, "too many launches at once".to_owned());
        };
        let mut forked = self.fork_bounded(key, command, slot);
        // Somebody killed the init of its namespaces just now: that is no failure of this run.
        if forked.is_err() && self.set_dying_den_aside(task) {
            forked = self.fork_bounded(key, command, slot);
        }
        let (launched, group) = match forked {
            Ok(forked) => forked,
            Err(reason) => {
                self.shared.live.free_slot(slot);
                return self.launch_failed(key, again, reason);
            }
        };
        let pid = launched.child.pid;
        let pumped = !launched.streams.is_empty();
        if pumped {
            self.pump_streams(key, launched.streams);
        }
        let start_ticks = process::stat(pid).map_or(0, |stat| stat.start_ticks);
        let began = started(key, again, pid, start_ticks, group.as_deref());
        let start = self.record(task, began);
        self.hurry();
        let index = self.insert_run(Run {
            key,
            pid,
            start_ticks,
            pidfd: launched.child.pidfd,
            phase: Phase::Gated { start },
            is_child: true,
            gate: Some(launched.gate),
            slot: Some(slot),
            exec: None,
            stopping: false,
            pumped,
            group,
            memory: None,
            program: Some(shown(command)),
        });
        self.gates.push_back((start, index));
        self.watch_run(index);
        if command.limits.is_some_and(|limits| limits.ram > 0) {
            self.watch_memory(index, true);
        }
    }

    /// Makes what the run is bounded by, and forks it.
    fn fork_bounded(
        &mut self,
        key: Key,
        command: &wire::Launch,
        slot: usize,
    ) -> Result<(Launched, Option<Box<str>>), String> {
        for what in &command.unenforced {
            self.told_once(key, format!("not enforced: {what}"));
        }
        self.prepare_den(key.task, command)?;
        let group = self.group_for(key, command)?;
        let bounds = Bounds {
            group: group.as_ref().map(|group| &group.group),
            entrance: self.entrance(key.task, command),
        };
        match launch(key, command, &self.setting, &self.shared.live, slot, bounds) {
            Ok(launched) => Ok((launched, group.map(|group| group.name))),
            Err(error) => {
                if let Some(group) = group {
                    group.group.remove();
                }
                let reason = error.to_string();
                let reason = reason.split(" (os error").next().unwrap_or_default();
                Err(reason.to_owned())
            }
        }
    }

    /// A run that could not even be forked has both its records at once.
    fn launch_failed(&mut self, key: Key, again: bool, reason: String) {
        if !again {
            self.record(key.task, started(key, false, 0, 0, None));
        }
        let how = How::LaunchFailed(LaunchFailure {
            reason,
            exec_errno: 0,
        });
        self.record_end(key, how);
    }

    fn abandon(&mut self, key: Key) {
        if self.unlaunched.remove(&key) {
            let reason = "it never passed its gate and is not wanted any more".to_owned();
            self.record_end(key, How::Lost(Lost { reason }));
        }
    }

    pub(super) fn record_end(&mut self, key: Key, how: How) -> u64 {
        let end = End {
            process: key.process,
            run: key.run,
            how: Some(how),
            ..End::default()
        };
        self.record(key.task, Kind::End(end))
    }

    pub(super) fn pump_streams(&mut self, key: Key, streams: Vec<super::output::Stream>) {
        if self.pump.is_none() {
            let started = Pump::start(self.shared.fd_sender.clone()).and_then(|pump| {
                self.watch(pump.event(), Token::Pump.number(0))?;
                Ok(pump)
            });
            match started {
                Ok(pump) => self.pump = Some(pump),
                Err(error) => return self.notice(format!("no log rotation: {error}"), key),
            }
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
    fn read_output(&mut self, task: u32, command: &wire::Launch) {
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
        match super::spawn::reopen(key, command, pid, &mut self.shared.pipes) {
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

    /// All processes of the task: what is below us, and what an earlier keeper left elsewhere.
    pub(super) fn everything(&self, task: u32, snapshot: &Snapshot) -> Vec<Stat> {
        let me = std::process::id() as i32;
        let spared = self.runner_pid();
        let ours = (spared, self.init_of(task));
        let mut found = self.tasks.processes(task, &self.runs, snapshot, me, ours);
        if task == 0
            && let Some(strays) = &self.strays
        {
            found.extend(strays.find(snapshot));
        }
        // The inits are ours; they end when their tasks do.
        found.retain(|stat| !self.is_init(stat.pid));
        found
    }

    /// True when no process of the task is alive, as far as one cheap look tells.
    pub(super) fn nothing_left(&self, task: u32) -> bool {
        let is_its = |stat: &Stat| self.tasks.owner(stat) == Some(task);
        self.runs.all_ended(task)
            && self.strays.is_none()
            && self
                .tasks
                .get(task)
                .is_none_or(|kept| kept.grouped().is_empty())
            && self
                .strangers()
                .is_ok_and(|found| !found.iter().any(is_its))
    }

    /// Our living children that are neither a run's first process nor the runner: orphans. None is
    /// believed only if no child died during the look: what a dying one leaves behind becomes our
    /// child when the list was read already.
    pub(super) fn strangers(&self) -> std::io::Result<Vec<Stat>> {
        loop {
            self.take_signals();
            let found = self.look_for_strangers()?;
            if !found.is_empty() || !self.take_signals() {
                return Ok(found);
            }
        }
    }

    fn look_for_strangers(&self) -> std::io::Result<Vec<Stat>> {
        let runner = self.runner_pid();
        let mut found = Vec::new();
        for pid in process::children()? {
            let is_ours = Some(pid) == runner || self.is_init(pid);
            if is_ours || self.runs.has_pid(pid) || self.is_probe(pid) {
                continue;
            }
            match process::stat(pid) {
                Some(stat) if !stat.is_dead() => found.push(stat),
                _ => {
                    // Nobody else reaps it, and its code means nothing to anybody.
                    let id = || Id::Pid(nix::unistd::Pid::from_raw(pid));
                    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
                    if let Err(errno) = again(|| waitid(id(), flags)) {
                        tracing::debug!("reaping the orphan {pid}: {errno}");
                    }
                }
            }
        }
        // What is orphaned in a pid namespace is its init's.
        for init in self.inits() {
            let orphans = process::children_of(init)?.into_iter();
            found.extend(
                orphans
                    .filter_map(process::stat)
                    .filter(|stat| !stat.is_dead()),
            );
        }
        Ok(found)
    }
}

fn started(key: Key, again: bool, pid: i32, start_ticks: u64, group: Option<&str>) -> Kind {
    let Key { process, run, .. } = key;
    let pid = pid as u32;
    let group = group.unwrap_or_default().to_owned();
    if again {
        Kind::Again(Again {
            process,
            run,
            pid,
            start_ticks,
            group,
        })
    } else {
        Kind::Start(Start {
            process,
            run,
            pid,
            start_ticks,
            group,
        })
    }
}

/// A new journal in `path`, and what its first sync has to take along.
fn journal_in(path: &str) -> std::io::Result<(Journal, Also)> {
    let directory = open_directory(path)?;
    let storage = FileStorage::open(directory.try_clone()?, JOURNAL)?;
    // One that never became durable is empty; anything else is somebody's record.
    let own = nix::unistd::geteuid().as_raw();
    let known = journal::read_file(storage.file(), path.as_ref(), own);
    if known.map_err(std::io::Error::other)?.is_some() {
        return Err(std::io::ErrorKind::AlreadyExists.into());
    }
    let journal = Journal::create(storage)?;
    Ok((journal, Some(sync_directories(directory, path)?)))
}

/// What is executed, for an error message.
fn shown(command: &wire::Launch) -> Box<str> {
    let name = command.argv.first().map(Vec::as_slice).unwrap_or_default();
    String::from_utf8_lossy(name).into()
}
