//! Succession: becoming the keeper of a task that is under way. The root succeeds a dead keeper,
//! whose children are its own then; a new keeper succeeds root and keeper that died together, and
//! finds processes that are the children of others.
//!
//! What an earlier keeper knew is in the journal and in the shared state; nothing else is needed.
//! A journal that cannot be believed is never succeeded: what can be proved to be the task's is
//! killed.

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
    error::{KeeperError, MemberError},
    foreign_exit_code, health_scripts,
    journals::journal_file,
    keeper::Keeper,
    memory_kills::MemoryKills,
    runs::{Phase, Run},
    shared::Shared,
    strays::Strays,
    survivors::{
        OfTask, Open, first_processes, fold, group_names, groups, is_adoption, last_boot, last_init,
    },
    tasks::Mark,
};
use crate::{
    engine::ipc::{Gate, Holder, JOURNAL, Key, StartError, open_directory},
    journal::{self, Cover, FileStorage, Journal, Kind, Record, Replay},
    resources::Group,
    sys::{
        process,
        tree::{self, Snapshot},
        zombie,
    },
};

/// A journal that is gone on with: the task's number, its directory, what it did, where to append.
type Resumed = (u32, String, Replay, Journal);

/// What is the same for all journals of a succession.
#[derive(Clone, Copy)]
struct Circumstances {
    cover: Cover,
    /// The machine was restarted since: no process of the task is left.
    rebooted: bool,
    /// The kernel tells exit codes of processes that are the children of others.
    tells: bool,
}

impl Keeper {
    /// Succeeds the keeper whose journal is in `shared`.
    ///
    /// # Errors
    /// Why the journal cannot be gone on with; the client, if any, has been told it too, and what
    /// can be proved to be the task's has been killed.
    pub(super) fn inherit(
        shared: Shared,
        client: Option<UnixStream>,
        cover: Cover,
    ) -> Result<Keeper, KeeperError> {
        let journals = match open_journals(&shared) {
            Ok(journals) => journals,
            Err(error) => {
                if let Some(client) = &client {
                    StartError::failed(error.to_string()).send(client);
                }
                if !error.is_beyond() {
                    kill_proved(&shared);
                }
                return Err(error);
            }
        };
        let [(_, _, replay, _), ..] = journals.as_slice() else {
            return Err(KeeperError::Empty { path: shared.path });
        };
        let rebooted = last_boot(&replay.records) != Some(process::boot_id());
        if rebooted {
            shared.live.clear();
            set_root_again(&shared);
        }
        let tenures = replay.records.iter().filter(is_adoption).count();
        let has_strays = !rebooted && tenures + usize::from(cover == Cover::Whole) > 1;
        let circumstances = Circumstances {
            cover,
            rebooted,
            // Asked while this process has one thread.
            tells: has_strays && foreign_exit_code::is_supported(),
        };
        let mark = Mark::of(&replay.header.sandbox);
        for (pid, start_ticks) in shared.live.forget_scripts() {
            health_scripts::end_orphan(pid, start_ticks, &mark);
        }
        let strays = has_strays.then(|| Strays {
            first: first_processes(&replay.records),
            mark,
            is_cut: replay.compacted_through() > 0,
            home_is_proof: !replay.header.sandbox_given,
            groups: groups(&replay.records).unwrap_or_default(),
            watched: Vec::new(),
        });
        let mut keeper = Keeper::new(shared)?;
        keeper.strays = strays;
        // All are known before any process is looked for among them.
        for (task, directory, replay, _) in &journals {
            keeper.keep(*task, directory.clone(), &replay.header);
        }
        for (task, _, replay, journal) in journals {
            keeper.writer.add(task, journal, replay.total(), None);
            keeper.resume(task, &replay, circumstances);
        }
        // Of runs that are over.
        let runs = &keeper.runs;
        keeper
            .shared
            .live
            .forget_signals(|key| runs.find(key).is_some());
        Ok(keeper)
    }

    fn resume(&mut self, task: u32, replay: &Replay, circumstances: Circumstances) {
        let Circumstances {
            cover,
            rebooted,
            tells,
        } = circumstances;
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
            self.resume_init(task, &init);
        }
        let (open, next_run) = fold(&replay.records);
        for (process, next) in next_run {
            self.runs.set_next(task, process, next);
        }
        if !rebooted {
            let names = group_names(&replay.records);
            self.find_left_groups(task, &names, &open);
            self.end_left_scripts(task, |name| names.contains_key(name));
        }
        for ((process, run), open) in open {
            let key = Key { task, process, run };
            if rebooted {
                self.lost(key, "the machine was restarted");
            } else {
                self.resume_run(key, open, tells);
            }
        }
        self.pending.hurry();
    }

    /// What runs that are over have left in their groups is killed before their processes run
    /// again.
    fn find_left_groups(
        &mut self,
        task: u32,
        names: &BTreeMap<&str, OfTask>,
        open: &BTreeMap<OfTask, Open>,
    ) {
        let Some(group) = self.tasks.group(task).cloned() else {
            return;
        };
        for name in group.tracking().subgroups() {
            let of = names.get(name.as_str());
            if let Some((process, run)) = of.filter(|of| !open.contains_key(of)).copied() {
                let key = Key { task, process, run };
                self.remove_group(Some(key), group.below(&name));
            }
        }
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
            self.runs.add_unlaunched(key, open.signals.len() as u32);
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
        let mut how = None;
        if !is_child {
            match process::stat(open.pid) {
                Some(stat) if stat.start_ticks == open.start_ticks => {}
                _ => return self.lost(key, "it ended while nobody looked"),
            }
            if !tells {
                // Only a zombie that tells us by itself need not be lost.
                let dead = zombie::is_dead(pidfd.as_fd());
                let status = dead.then(|| zombie::wait_status(open.pid, open.start_ticks));
                how = status.flatten().map(foreign_exit_code::how_of);
                if how.is_none() {
                    self.kill_untold(key, &open);
                    return self.lost(key, "this kernel does not tell its exit code");
                }
            }
        }
        let index = self.insert_run(Run {
            key,
            pid: open.pid,
            start_ticks: open.start_ticks,
            pidfd,
            phase: Phase::Running,
            is_child,
            how,
            gate: None,
            slot,
            exec: open.exec.then_some(0),
            stopping: false,
            // The runner will ask to read on.
            pumped: self.shared.holds(key),
            limited: open.limited,
            group: open.group.clone(),
            memory: None,
            kills: MemoryKills::told(open.kills_told),
            program: None,
            signals_sent: 0,
            signal_slots: Vec::new(),
        });
        if slot.map(|slot| self.shared.live.gate(slot)) == Some(Gate::Passed) {
            self.executed(index, key);
        }
        self.send_owed_signals(index, &open);
        self.watch_run(index);
        self.watch_memory(index);
        let is_watched = |run: &Run| run.memory.is_some();
        if self.runs.get(index).is_some_and(is_watched) {
            // What was killed since the last look of the dead keeper.
            self.memory_changed(index);
        }
    }

    /// Kills a run whose exit code could not be learnt: its group, and the tree of its first
    /// process.
    fn kill_untold(&mut self, key: Key, open: &Open) {
        let named = open.group.as_deref();
        let group = named.and_then(|name| self.tasks.group(key.task)?.below(name).into());
        let group: Group = group.unwrap_or_default();
        group.kill();
        let killed = tree::kill_all(Snapshot::of_machine, |snapshot| {
            let mut tree = snapshot.below(open.pid, None);
            let first = snapshot.get(open.pid).copied();
            tree.extend(first.filter(|stat| stat.start_ticks == open.start_ticks));
            let grouped = group.processes();
            tree.extend(grouped.iter().filter_map(|pid| snapshot.get(*pid)));
            tree
        });
        if let Err(error) = killed {
            self.notice(format!("cannot kill: {error}"), key);
        }
    }

    fn lost(&mut self, key: Key, reason: &str) {
        self.record_end(key, foreign_exit_code::lost(reason));
    }
}

/// The group's own journal first, then those of its tasks.
fn open_journals(shared: &Shared) -> Result<Vec<Resumed>, KeeperError> {
    let storage = journal_file(shared).map_err(KeeperError::JournalFile)?;
    let path = format!("{}/{JOURNAL}", shared.path);
    let replay = journal::read_file(storage.file(), path.as_ref(), own_uid())?
        .ok_or(KeeperError::Empty { path })?;
    let journal = Journal::resume(storage, replay.end).map_err(KeeperError::JournalFile)?;
    let members = members(&replay.records)?;
    let mut journals = vec![(0, shared.path.clone(), replay, journal)];
    journals.extend(members);
    Ok(journals)
}

/// Kills what can be proved to be the task's without its journal: what is below this process, and
/// what has the sandbox that only a task of this directory has.
fn kill_proved(shared: &Shared) {
    let me = std::process::id() as i32;
    let sandbox = format!("{}/sandbox", shared.path);
    let strays = Strays {
        first: vec![(0, 0)],
        mark: Mark::of(&sandbox),
        is_cut: false,
        home_is_proof: true,
        groups: Vec::new(),
        watched: Vec::new(),
    };
    let killed = tree::kill_all(Snapshot::of_machine, |snapshot| {
        let mut found = snapshot.below(me, None);
        found.extend(strays.find(snapshot));
        found
    });
    if let Err(error) = killed {
        tracing::error!("cannot kill: {error}");
    }
}

/// The tasks that an executor's journal names as open.
fn members(records: &[Record]) -> Result<Vec<Resumed>, KeeperError> {
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
        // Its keeper died before the first sync, or it was removed: nothing of it goes on.
        if !Path::new(&path).exists() {
            continue;
        }
        let resumed = resume_member(task, directory, &path);
        members.extend(resumed.map_err(|why| KeeperError::Member { path, why })?);
    }
    Ok(members)
}

/// Opens the journal of one task; `None` when nothing is in it.
fn resume_member(task: u32, directory: String, path: &str) -> Result<Option<Resumed>, MemberError> {
    let opened = open_directory(&directory)?;
    let storage = FileStorage::open(opened, JOURNAL)?;
    let Some(replay) = journal::read_file(storage.file(), path.as_ref(), own_uid())? else {
        return Ok(None);
    };
    let journal = Journal::resume(storage, replay.end)?;
    Ok(Some((task, directory, replay, journal)))
}

/// The user whose journals are believed.
fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Clearing the mapping forgets the root that is at work.
fn set_root_again(shared: &Shared) {
    let parent = nix::unistd::getppid().as_raw();
    if let Some(stat) = process::stat(parent) {
        let live = &shared.live;
        live.set_holder(Holder::Root, parent as u32, stat.start_ticks);
    }
}
