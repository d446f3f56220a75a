//! Starting and ending the scripts of health checks: ungated, unrecorded, killed with their trees
//! at their time-out.
//!
//! They are processes of their task like any other, so what ends the task ends them too.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::fd::{AsFd, AsRawFd},
};

use nix::{
    fcntl::{FcntlArg, SealFlag},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{MsgFlags, send},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};

use super::{
    error::LaunchError,
    health_script::HealthScript,
    keeper::Keeper,
    launch_queue::Waiting,
    poller::Token,
    spawn::{Bounds, launch_script},
    tasks::Mark,
};
use crate::{
    protocols::dewar::link as wire,
    sys::{
        clock::now,
        process,
        retry::again,
        tree::{self, Snapshot},
        zombie,
    },
};

/// How much a script may write, bytes.
const LARGEST: u64 = 1 << 20;
/// How much of its output is quoted in the reason of a failure, bytes.
const QUOTED: u64 = 200;

impl Keeper {
    /// Starts the script of a health check; one that cannot be started has failed.
    pub(super) fn check_health(&mut self, task: u32, probe: wire::Probe) {
        let Some(command) = &probe.launch else { return };
        let about = wire::Probed {
            task,
            process: probe.of_process.then_some(command.process),
            run: command.run,
            is_check: probe.is_check,
            ..wire::Probed::default()
        };
        match self.start_script(command, about.clone(), probe.timeout_us) {
            Ok(()) => self.runs.queue.began(),
            Err(error) if error.is_shortage() => {
                let what = "a health check cannot be started";
                self.fell_short(task, Waiting::Script(probe), what, &error);
            }
            Err(error) => self.link.tell_probed(wire::Probed {
                failure: format!("the health check cannot be started: {error}"),
                ..about
            }),
        }
    }

    fn start_script(
        &mut self,
        command: &wire::Launch,
        about: wire::Probed,
        timeout_us: u64,
    ) -> Result<(), LaunchError> {
        let output = bounded_file()?;
        let slot = self.shared.live.take_script_slot();
        let slot = slot.ok_or(LaunchError::NoSlot)?;
        let started = self.fork_script(command, about, timeout_us, output, slot);
        if started.is_err() {
            // A script that was forked already leaves by itself: its gate closes.
            self.shared.live.free_slot(slot);
        }
        started
    }

    fn fork_script(
        &mut self,
        command: &wire::Launch,
        about: wire::Probed,
        timeout_us: u64,
        output: File,
        slot: usize,
    ) -> Result<(), LaunchError> {
        let prepared = self.prepare_namespaces(about.task, command);
        let group = self.script_group(&about, command, slot);
        prepared?;
        let bounds = Bounds {
            group: group.as_ref(),
            entrance: self.namespaces.entrance(about.task, command),
        };
        let live = &self.shared.live;
        let launched = launch_script(command, &self.setting, live, slot, &output, bounds);
        let launched = match (launched, group.as_ref()) {
            (Err(error), Some(group)) => {
                group.remove();
                return Err(error.into());
            }
            (launched, _) => launched?,
        };
        let pid = launched.child.pid;
        let start_ticks = process::stat(pid).map_or(0, |stat| stat.start_ticks);
        live.set_script(slot, pid, start_ticks);
        let index = self.health_scripts.free_index();
        let pidfd = launched.child.pidfd;
        self.poller.watch_end(pidfd.as_fd(), Token::Script, index)?;
        again(|| send(launched.gate.as_raw_fd(), &[1], MsgFlags::MSG_NOSIGNAL))
            .map_err(std::io::Error::from)?;
        self.tasks.add_session(pid, about.task);
        let script = HealthScript {
            about,
            pid,
            start_ticks,
            pidfd,
            slot,
            group,
            _gate: launched.gate,
            output,
            until: now().boot_us.saturating_add(timeout_us),
            is_overdue: false,
        };
        self.health_scripts.insert(index, script);
        Ok(())
    }

    /// Kills the scripts that took too long, with their trees.
    pub(super) fn end_overdue_scripts(&mut self, clock: u64) {
        for index in self.health_scripts.take_overdue(clock) {
            let Some(script) = self.health_scripts.get(index) else {
                continue;
            };
            self.end_script(script);
            // One that is dead, and held by a tracer, will not be told of.
            if zombie::is_dead(script.pidfd.as_fd()) {
                self.health_script_died(index);
            }
        }
    }

    /// SIGKILL to all of a script: its group, or its tree and its session.
    fn end_script(&self, script: &HealthScript) {
        match &script.group {
            Some(group) => group.kill(),
            None => kill_session(|| self.look(), script.pid, script.start_ticks),
        }
    }

    /// The first process of a script is dead: what it left behind dies with it.
    pub(super) fn health_script_died(&mut self, index: usize) {
        let Some(script) = self.health_scripts.get(index) else {
            return;
        };
        self.end_script(script);
        let id = || Id::Pid(Pid::from_raw(script.pid));
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        let end = again(|| waitid(id(), flags));
        // A tracer is told first: the pidfd tells when it has let go.
        if end == Ok(WaitStatus::StillAlive) && !script.is_overdue {
            return;
        }
        let Some(mut script) = self.health_scripts.remove(index) else {
            return;
        };
        self.poller.forget(script.pidfd.as_fd());
        self.shared.live.free_slot(script.slot);
        if let Some(group) = script.group.take() {
            self.remove_group(None, group);
        }
        self.children_changed = true;
        let value = match end {
            Ok(WaitStatus::Exited(_, code)) if !script.is_overdue => Some(code),
            _ => None,
        };
        let failure = match end {
            _ if script.is_overdue => "health check timed out".to_owned(),
            Ok(WaitStatus::Exited(_, 0)) => String::new(),
            Ok(WaitStatus::Exited(_, code)) => {
                let output = tail(&mut script.output);
                format!("command returned non-zero exit status {code} with output {output:?}")
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("command died of {signal}"),
            end => format!("command ended in an unknown way: {end:?}"),
        };
        self.link.tell_probed(wire::Probed {
            failure,
            value,
            ..script.about
        });
    }
}

/// Kills the script of a dead keeper, if this process is still it: a child of this keeper by now,
/// or known by the task's HOME. What the shared state says is no proof.
pub(super) fn end_orphan(pid: i32, start_ticks: u32, mark: &Mark) {
    let me = std::process::id() as i32;
    let is_it = |stat: &process::Stat| {
        stat.start_ticks as u32 == start_ticks && (stat.parent == me || mark.has_home(pid))
    };
    if let Some(stat) = process::stat(pid).filter(is_it) {
        kill_session(Snapshot::of_machine, pid, stat.start_ticks);
    }
}

/// Kills everything in the session that a script leads, and below it.
fn kill_session(look: impl Fn() -> std::io::Result<Snapshot>, pid: i32, start_ticks: u64) {
    let killed = tree::kill_all(look, |snapshot| {
        let mut found = snapshot.below(pid, None);
        // Younger than the script: an older session of this number is not the script's.
        let session = snapshot.in_session(pid);
        found.extend(session.filter(|stat| stat.start_ticks >= start_ticks));
        found
    });
    if let Err(error) = killed {
        tracing::error!("cannot kill the health check {pid}: {error}");
    }
}

/// A file in memory that takes so much and no more: writing beyond that is the script's own error.
fn bounded_file() -> std::io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(c"health", flags)?);
    file.set_len(LARGEST)?;
    let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    nix::fcntl::fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// The end of what it wrote; nothing if that cannot be read.
fn tail(output: &mut File) -> String {
    let mut bytes = Vec::new();
    // The script's descriptors share their place with ours.
    let read = output.stream_position().and_then(|end| {
        let start = end.saturating_sub(QUOTED);
        output.seek(SeekFrom::Start(start))?;
        output.take(end - start).read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        tracing::warn!("a health check's output: {error}");
    }
    String::from_utf8_lossy(&bytes).trim().to_owned()
}
