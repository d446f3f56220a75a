//! A launch, from the runner's command to a child behind its gate.
//!
//! The gate opens when the start is on disk (`gates`). A run that cannot be forked is a failed run,
//! with both its records at once; but what dewar or the machine has too little of for the moment is
//! no failure of the run: it has no record yet, and waits (`launch_queue`).

use std::{io, os::fd::AsFd};

use super::{
    error::{LaunchError, Reason},
    keeper::Keeper,
    launch_queue::Waiting,
    memory_kills::MemoryKills,
    poller::Token,
    run_groups::RunGroup,
    runs::{Phase, Run},
    spawn::{Bounds, Launched, is_pumped, launch},
};
use crate::{
    engine::ipc::Key,
    journal::{Again, End, How, Kind, LaunchFailure, Start},
    protocols::dewar::link as wire,
    sys::{clock::now, errno::errno_of, process},
};

/// What is said of a launch that waits.
const CANNOT: &str = "cannot be launched";
/// Launches in one turn of the loop, at most.
const LAUNCHES_A_TURN: usize = 8;

impl Keeper {
    /// Starts some of what waits. Between two turns of the loop starts reach the disk, gates open
    /// and ends are recorded, so the first of many runs does not wait for the last one's fork.
    pub(super) fn launch_queued(&mut self) {
        for _ in 0..LAUNCHES_A_TURN {
            if !self.shared.live.has_free_slot() {
                return;
            }
            match self.runs.queue.next(now().boot_us) {
                Some((task, Waiting::Run(launch))) => self.launch(task, launch),
                Some((task, Waiting::Script(probe))) => self.check_health(task, probe),
                None => return,
            }
        }
    }

    /// True when a start waits and there is a slot for it: more are freed as execs reach the disk.
    pub(super) fn may_launch(&self) -> bool {
        self.runs.queue.is_ready() && self.shared.live.has_free_slot()
    }

    /// A start came to nothing because dewar or the machine has too little: it is tried again, and
    /// `what` is told.
    pub(super) fn fell_short(&mut self, task: u32, start: Waiting, what: &str, why: &LaunchError) {
        let key = match &start {
            Waiting::Run(launch) => Some(Key::of(task, launch)),
            Waiting::Script(_) => None,
        };
        if self.runs.queue.fell_short(task, start, now().boot_us) {
            let text = format!(
                "{what} yet: {}; that is dewar's or the machine's to mend, is tried again and counts for nothing",
                Reason(why)
            );
            self.notice_of(task, text, key);
        }
    }

    fn launch(&mut self, task: u32, command: wire::Launch) {
        let key = Key::of(task, &command);
        let Some(begun) = self.runs.may_begin(key).filter(|_| self.failed.is_none()) else {
            return;
        };
        let again = begun.is_some();
        if let Some(refusal) = command.refusal {
            return self.launch_failed(key, again, refusal);
        }
        let command = &command;
        let Some(slot) = self.shared.live.take_slot(key) else {
            let start = Waiting::Run(command.clone());
            return self.fell_short(task, start, CANNOT, &LaunchError::NoSlot);
        };
        let mut forked = self.fork_bounded(key, command, slot);
        // The init of its namespaces was killed just now: that is no failure of this run.
        if forked.is_err() && self.namespaces.set_dying_aside(task) {
            forked = self.fork_bounded(key, command, slot);
        }
        let (launched, group) = match forked {
            Ok(forked) => forked,
            Err(error) if error.is_shortage() => {
                self.shared.live.free_slot(slot);
                let start = Waiting::Run(command.clone());
                return self.fell_short(task, start, CANNOT, &error);
            }
            Err(error) => {
                self.shared.live.free_slot(slot);
                return self.launch_failed(key, again, Reason(&error).to_string());
            }
        };
        self.runs.queue.began();
        self.end_earlier(key);
        self.children_changed = true;
        let pid = launched.child.pid;
        let pumped = !launched.streams.is_empty();
        if pumped {
            self.pump_streams(key, launched.streams);
        }
        let start_ticks = process::stat(pid).map_or(0, |stat| stat.start_ticks);
        let began = started(key, again, pid, start_ticks, group.as_ref());
        let start = self.record(task, began);
        self.pending.hurry();
        let index = self.insert_run(Run {
            key,
            pid,
            start_ticks,
            pidfd: launched.child.pidfd,
            phase: Phase::Gated { start },
            is_child: true,
            how: None,
            gate: Some(launched.gate),
            slot: Some(slot),
            exec: None,
            stopping: false,
            pumped,
            limited: group.as_ref().is_some_and(|group| group.limited),
            group: group.map(|group| group.name),
            memory: None,
            kills: MemoryKills::default(),
            program: Some(shown(command)),
            signals_sent: begun.unwrap_or_default(),
            signal_slots: Vec::new(),
        });
        self.pending.open_gate_after(start, index);
        self.watch_run(index);
        let limits = [command.limits, command.task_limits];
        if limits.into_iter().flatten().any(|limits| limits.ram > 0) {
            self.watch_memory(index);
        }
    }

    /// Makes the group and the namespaces of a run, and forks it.
    fn fork_bounded(
        &mut self,
        key: Key,
        command: &wire::Launch,
        slot: usize,
    ) -> Result<(Launched, Option<RunGroup>), LaunchError> {
        for what in &command.unenforced {
            self.tell_once(key, format!("not enforced: {what}"));
        }
        if command.log.as_ref().is_some_and(is_pumped) {
            // A process whose output is not read would wait for ever.
            self.need_pump()?;
        }
        self.prepare_namespaces(key.task, command)?;
        let group = self.group_for(key, command)?;
        let launch_in = |group: Option<&RunGroup>| {
            let bounds = Bounds {
                group: group.map(|group| &group.group),
                entrance: self.namespaces.entrance(key.task, command),
            };
            launch(key, command, &self.setting, &self.shared.live, slot, bounds)
        };
        let Some(group) = group else {
            return Ok((launch_in(None)?, None));
        };
        match launch_in(Some(&group)) {
            Ok(launched) => Ok((launched, Some(group))),
            Err(error) => {
                let is_full = group.group.is_full();
                group.group.remove();
                // Without limits it need not have a group.
                if !group.limited && is_closed(&error) {
                    tracing::warn!("a run has no group of its own: {error}");
                    return Ok((launch_in(None)?, None));
                }
                match errno_of(&error) {
                    Some(libc::EAGAIN) if is_full => Err(LaunchError::PidsLimit),
                    _ => Err(error.into()),
                }
            }
        }
    }

    /// A run that could not even be forked has both its records at once.
    fn launch_failed(&mut self, key: Key, again: bool, reason: String) {
        self.runs.spend(key);
        if !again {
            self.record(key.task, started(key, false, 0, 0, None));
        }
        let how = How::LaunchFailed(LaunchFailure {
            reason,
            exec_errno: 0,
        });
        self.record_end(key, how);
    }

    /// Records the end of a run that the keeper does not look after.
    pub(super) fn record_end(&mut self, key: Key, how: How) -> u64 {
        let end = End {
            process: key.process,
            run: key.run,
            how: Some(how),
            ..End::default()
        };
        self.record(key.task, Kind::End(end))
    }

    /// Looks after a run.
    pub(super) fn insert_run(&mut self, run: Run) -> usize {
        self.tasks.add_session(run.pid, run.key.task);
        self.runs.insert(run)
    }

    /// Watches a run's exit and gate. A keeper that cannot would leave an end unseen: it gives
    /// way to its successor.
    pub(super) fn watch_run(&self, index: usize) {
        let Some(run) = self.runs.get(index) else {
            return;
        };
        let watched = self.poller.watch_end(run.pidfd.as_fd(), Token::Exit, index);
        let watched: io::Result<()> = watched.and_then(|()| match &run.gate {
            Some(gate) => self.poller.watch(gate.as_fd(), Token::Gate, index),
            None => Ok(()),
        });
        if let Err(error) = watched {
            tracing::error!("cannot watch pid {}: {error}; giving up", run.pid);
            std::process::exit(70);
        }
    }
}

fn started(key: Key, again: bool, pid: i32, start_ticks: u64, group: Option<&RunGroup>) -> Kind {
    let Key { process, run, .. } = key;
    let pid = pid as u32;
    let name = |limited| {
        let group = group.filter(|group| group.limited == limited);
        group.map_or_else(String::new, |group| group.name.to_string())
    };
    let (group, tracked) = (name(true), name(false));
    if again {
        Kind::Again(Again {
            process,
            run,
            pid,
            start_ticks,
            group,
            tracked,
        })
    } else {
        Kind::Start(Start {
            process,
            run,
            pid,
            start_ticks,
            group,
            tracked,
        })
    }
}

/// True when the kernel may have refused to put the child into its group: that of an earlier
/// keeper may be beyond what this one may change.
fn is_closed(error: &io::Error) -> bool {
    const REFUSALS: [i32; 5] = [
        libc::EACCES,
        libc::EBUSY,
        libc::ENODEV,
        libc::ENOENT,
        libc::EOPNOTSUPP,
    ];
    error
        .raw_os_error()
        .is_some_and(|errno| REFUSALS.contains(&errno))
}

/// What is executed, for an error message.
fn shown(command: &wire::Launch) -> Box<str> {
    let name = command.argv.first().map(Vec::as_slice).unwrap_or_default();
    String::from_utf8_lossy(name).into()
}
