//! Becoming the keeper of a task that is under way: of a dead keeper's children, as its root, or of
//! processes that belong to nobody any more, when root and keeper died together.
//!
//! What an earlier keeper knew is in the journal and in the live mapping; nothing else is needed.

use std::{
    collections::BTreeMap,
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
};

use rustix::{
    io::retry_on_intr,
    process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid},
};

use super::{
    begin::journal_file,
    exit_info, health_scripts,
    keeper::{Keeper, Token},
    recorded::{Open, first_processes, fold, groups, is_adoption, last_boot, last_init},
    runs::{Phase, Run},
    shared::Shared,
    strays::Strays,
    tasks::Mark,
};
use crate::{
    engine::ipc::{Gate, JOURNAL, Key, StartError, open_directory},
    journal::{self, Cover, FileStorage, Journal, Kind, Record, Replay},
    resources::{Group, Site},
    sys::{
        process,
        tree::{self, Snapshot},
    },
};

impl Keeper {
    /// Takes up the task whose journal is in `shared`.
    ///
    /// # Errors
    /// A message; the client, if any, has been told it too. When the journal cannot be trusted, the
    /// processes below us have been killed.
    pub(super) fn take_over(
        shared: Shared,
        client: Option<UnixStream>,
        cover: Cover,
    ) -> Result<Keeper, String> {
        let refuse = |message: String| {
            if let Some(client) = &client {
                StartError {
                    busy: false,
                    message: message.clone(),
                }
                .send(client);
            }
            // What can be proved to be the task's without its journal: what is below us, and what
            // has the sandbox that only a task of this directory has.
            let me = std::process::id() as i32;
            let sandbox = format!("{}/sandbox", shared.path);
            let strays = Strays {
                first: vec![(0, 0)],
                mark: Mark::of(&sandbox),
                is_cut: false,
                home_is_proof: true,
                group: Group::default(),
                watched: Vec::new(),
            };
            let killed = tree::kill_all(|snapshot| {
                let mut found = snapshot.below(me, None);
                found.extend(strays.find(snapshot));
                found
            });
            if let Err(error) = killed {
                tracing::error!("cannot kill: {error}");
            }
            message
        };
        let storage = journal_file(&shared).map_err(|error| refuse(error.to_string()))?;
        let path = format!("{}/{JOURNAL}", shared.path);
        let replay = journal::read_file(storage.file(), path.as_ref(), own_uid())
            .map_err(|error| refuse(error.to_string()))?
            .ok_or_else(|| refuse(format!("{path} is empty: the task never began")))?;
        let journal =
            Journal::resume(storage, replay.end).map_err(|error| refuse(error.to_string()))?;
        let rebooted = last_boot(&replay.records) != Some(process::boot_id());
        if rebooted {
            shared.live.clear();
            set_holders_again(&shared);
        }
        let tenures = replay.records.iter().filter(is_adoption).count();
        let has_strays = !rebooted && tenures + usize::from(cover == Cover::Whole) > 1;
        // Asked while this process has one thread.
        let tells = has_strays && exit_info::is_supported();
        let members = members(&replay.records).map_err(refuse)?;
        let mark = Mark::of(&replay.header.sandbox);
        for (pid, start_ticks) in shared.live.forget_probes() {
            health_scripts::end_orphan(pid, start_ticks, &mark);
        }
        let mut keeper = Keeper::new(shared)?;
        if has_strays {
            keeper.strays = Some(Strays {
                first: first_processes(&replay.records),
                mark: Mark::of(&replay.header.sandbox),
                is_cut: replay.compacted_through() > 0,
                home_is_proof: !replay.header.sandbox_given,
                group: groups(&replay.records)
                    .map_or_else(Group::default, |known| Group::known(&Site::find(), &known)),
                watched: Vec::new(),
            });
        }
        // All are known before any process is looked for among them.
        let path = keeper.shared.path.clone();
        let mut journals = vec![(0, path, replay, journal)];
        journals.extend(members);
        for (task, directory, replay, _) in &journals {
            keeper.keep(*task, directory.clone(), &replay.header);
        }
        for (task, _, replay, journal) in journals {
            keeper.writer.add(task, journal, replay.total(), None);
            keeper.resume(task, &replay, cover, rebooted, tells);
        }
        Ok(keeper)
    }

    fn resume(&mut self, task: u32, replay: &Replay, cover: Cover, rebooted: bool, tells: bool) {
        self.begin_tenure(task, cover);
        if let Some((offset, why)) = replay.torn {
            self.notice_of(
                task,
                format!("the journal's torn tail at offset {offset} was cut ({why})"),
                None,
            );
        }
        for (pid, _) in first_processes(&replay.records) {
            self.tasks.add_session(pid, task);
        }
        if let Some(directories) = groups(&replay.records)
            && !rebooted
        {
            self.resume_groups(task, &directories);
        }
        if let Some(init) = last_init(&replay.records)
            && !rebooted
        {
            self.resume_den(task, &init);
        }
        let (open, next_run) = fold(&replay.records);
        for (process, next) in next_run {
            self.next_run.insert((task, process), next);
        }
        for ((process, run), open) in open {
            let key = Key { task, process, run };
            if rebooted {
                self.lost(key, "the machine was restarted");
            } else {
                self.resume_run(key, open, tells);
            }
        }
        self.hurry();
    }

    fn resume_run(&mut self, key: Key, open: Open, tells: bool) {
        let slot = match open.exec {
            true => None,
            false => self.shared.live.find_slot(key),
        };
        if let Some(slot) = slot
            && matches!(self.shared.live.gate(slot), Gate::Waiting | Gate::Revoked)
            && self.shared.live.revoke(slot)
        {
            // No effect, and there will be none: the same run is launched again.
            self.unlaunched.insert(key);
            return;
        }
        let Some(pid) = Pid::from_raw(open.pid) else {
            return self.lost(key, "it was being launched");
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let is_child = retry_on_intr(|| waitid(WaitId::Pid(pid), options)).is_ok();
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(_) => return self.lost(key, "it ended while nobody looked"),
        };
        if !is_child {
            match process::stat(open.pid) {
                Some(stat) if stat.start_ticks == open.start_ticks => {}
                _ => return self.lost(key, "it ended while nobody looked"),
            }
            if !tells {
                let pid = open.pid;
                let named = open.group.as_deref();
                let group = named.and_then(|name| self.task_groups(key.task)?.below(name).into());
                let group: Group = group.unwrap_or_default();
                group.kill();
                let killed = tree::kill_all(|snapshot| {
                    let mut tree = snapshot.below(pid, None);
                    let first = snapshot.get(pid).copied();
                    tree.extend(first.filter(|stat| stat.start_ticks == open.start_ticks));
                    let grouped = group.processes();
                    tree.extend(grouped.iter().filter_map(|pid| snapshot.get(*pid)));
                    tree
                });
                if let Err(error) = killed {
                    self.notice(format!("cannot kill: {error}"), key);
                }
                return self.lost(key, "this kernel does not tell its exit code");
            }
        }
        let index = self.insert_run(Run {
            key,
            pid: open.pid,
            start_ticks: open.start_ticks,
            pidfd,
            phase: Phase::Running,
            is_child,
            gate: None,
            slot,
            exec: open.exec.then_some(0),
            stopping: false,
            // Somebody will come and read on.
            pumped: self.shared.holds(key),
            group: open.group,
            memory: None,
            program: None,
        });
        if slot.map(|slot| self.shared.live.gate(slot)) == Some(Gate::Passed) {
            self.executed(index, key);
        }
        self.watch_run(index);
        self.watch_memory(index, false);
    }

    fn lost(&mut self, key: Key, reason: &str) {
        self.record_end(key, exit_info::lost(reason));
    }

    /// Strays are not our children: their ends are watched one by one.
    pub(super) fn watch_strays(&mut self) {
        let Some(mut strays) = self.strays.take() else {
            return;
        };
        if let Ok(snapshot) = Snapshot::take() {
            for stat in strays.find(&snapshot) {
                let opened = Pid::from_raw(stat.pid)
                    .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
                if let Some(pidfd) = opened {
                    let number = Token::Stray.number(strays.watched.len());
                    match self.watch(pidfd.as_fd(), number) {
                        Ok(()) => strays.watched.push(pidfd),
                        Err(error) => tracing::error!("cannot watch pid {}: {error}", stat.pid),
                    }
                }
            }
        }
        self.strays = Some(strays);
    }

    pub(super) fn stray_died(&mut self, index: usize) {
        let pidfd = self
            .strays
            .as_ref()
            .and_then(|strays| strays.watched.get(index));
        if let Some(pidfd) = pidfd {
            self.unwatch(pidfd.as_fd());
        }
        self.children_changed = true;
    }

    pub(super) fn has_live_strays(&self) -> bool {
        self.strays.as_ref().is_some_and(|strays| {
            Snapshot::take().is_ok_and(|snapshot| !strays.find(&snapshot).is_empty())
        })
    }
}

/// A task of an executor that is not over: its number, its directory, what it did, its journal.
type Member = (u32, String, Replay, Journal);

/// The tasks that an executor's journal names as open.
fn members(records: &[Record]) -> Result<Vec<Member>, String> {
    let mut open: BTreeMap<u32, String> = BTreeMap::new();
    for record in records {
        match &record.kind {
            Some(Kind::Opened(opened)) => {
                open.insert(opened.task, opened.directory.clone());
            }
            Some(Kind::Closed(closed)) => {
                open.remove(&closed.task);
            }
            _ => {}
        }
    }
    let mut members = Vec::new();
    for (task, directory) in open {
        let path = format!("{directory}/{JOURNAL}");
        let failed = |error: &dyn std::fmt::Display| format!("{path}: {error}");
        // Its keeper died before the first sync, or it was removed: nothing of it goes on.
        if !Path::new(&path).exists() {
            continue;
        }
        let storage = open_directory(&directory)
            .and_then(|opened| FileStorage::open(opened, JOURNAL))
            .map_err(|error| failed(&error))?;
        let read = journal::read_file(storage.file(), path.as_ref(), own_uid())
            .map_err(|error| failed(&error))?;
        if let Some(replay) = read {
            let journal = Journal::resume(storage, replay.end).map_err(|error| failed(&error))?;
            members.push((task, directory, replay, journal));
        }
    }
    Ok(members)
}

/// Whose journals are believed.
fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Clearing the mapping forgets the root that is at work.
fn set_holders_again(shared: &Shared) {
    let parent = nix::unistd::getppid().as_raw();
    if let Some(stat) = process::stat(parent) {
        let holder = crate::engine::ipc::Holder::Root;
        shared
            .live
            .set_holder(holder, parent as u32, stat.start_ticks);
    }
}
