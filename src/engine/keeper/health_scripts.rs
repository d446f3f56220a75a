//! Health checks that are scripts: ungated, unrecorded, killed with their trees at their time-out.
//!
//! They are processes of their task like any other, so whatever ends the task ends them too.

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
    keeper::{Keeper, Token},
    probe::Probe,
    spawn::{Bounds, launch_probe},
    tasks::Mark,
};
use crate::{
    protocols::dewar::link as wire,
    sys::{clock::now, process, retry::again, tree},
};

/// Of its output, bytes.
const LARGEST: u64 = 1 << 20;
/// Of its output, in the reason.
const QUOTED: u64 = 200;

impl Keeper {
    /// Starts a probe; one that cannot be started has failed.
    pub(super) fn probe(&mut self, task: u32, probe: wire::Probe) {
        let Some(command) = probe.launch else { return };
        let about = wire::Probed {
            task,
            process: probe.of_process.then_some(command.process),
            run: command.run,
            is_check: probe.is_check,
            ..wire::Probed::default()
        };
        let started = self.start_probe(&command, about.clone(), probe.timeout_us);
        if let Err(error) = started {
            self.report.probed.push(wire::Probed {
                failure: format!("the health check cannot be started: {error}"),
                ..about
            });
        }
    }

    fn start_probe(
        &mut self,
        command: &wire::Launch,
        about: wire::Probed,
        timeout_us: u64,
    ) -> std::io::Result<()> {
        let output = bounded_file()?;
        let slot = self.shared.live.take_probe_slot();
        let slot = slot.ok_or_else(|| std::io::Error::other("too many launches at once"))?;
        let prepared = self.prepare_den(about.task, command);
        let group = self.probe_group(&about, command, slot);
        let launched = prepared.map_err(std::io::Error::other).and_then(|()| {
            let bounds = Bounds {
                group: group.as_ref(),
                entrance: self.entrance(about.task, command),
            };
            let live = &self.shared.live;
            launch_probe(command, &self.setting, live, slot, &output, bounds)
        });
        let launched = match launched {
            Ok(launched) => launched,
            Err(error) => {
                self.shared.live.free_slot(slot);
                return Err(error);
            }
        };
        let pid = launched.child.pid;
        let start_ticks = process::stat(pid).map_or(0, |stat| stat.start_ticks);
        self.shared.live.set_probe(slot, pid, start_ticks);
        let index = self.probes.iter().position(Option::is_none);
        let index = index.unwrap_or_else(|| {
            self.probes.push(None);
            self.probes.len() - 1
        });
        let pidfd = launched.child.pidfd;
        let watched = self
            .watch(pidfd.as_fd(), Token::Probe.number(index))
            .and_then(|()| {
                Ok(
                    again(|| send(launched.gate.as_raw_fd(), &[1], MsgFlags::MSG_NOSIGNAL))
                        .map(drop)?,
                )
            });
        if let Err(error) = watched {
            // It leaves by itself: its gate closes.
            self.shared.live.free_slot(slot);
            return Err(error);
        }
        self.tasks.add_session(pid, about.task);
        self.probes[index] = Some(Probe {
            about,
            pid,
            start_ticks,
            pidfd,
            slot,
            _gate: launched.gate,
            output,
            until: now().boot_us.saturating_add(timeout_us),
            is_overdue: false,
        });
        Ok(())
    }

    /// When the next probe is overdue.
    pub(super) fn probe_due(&self) -> Option<u64> {
        let running = self.probes.iter().flatten();
        let timed = running.filter(|probe| !probe.is_overdue);
        timed.map(|probe| probe.until).min()
    }

    pub(super) fn is_probe(&self, pid: i32) -> bool {
        self.probes.iter().flatten().any(|probe| probe.pid == pid)
    }

    /// Kills the probes that took too long, with their trees.
    pub(super) fn end_overdue_probes(&mut self, clock: u64) {
        let mut overdue = Vec::new();
        for probe in self.probes.iter_mut().flatten() {
            if probe.until <= clock && !probe.is_overdue {
                probe.is_overdue = true;
                overdue.push((probe.pid, probe.start_ticks));
            }
        }
        for (pid, start_ticks) in overdue {
            kill_session(pid, start_ticks);
        }
    }

    /// The first process of a probe is dead: what it left behind dies with it.
    pub(super) fn probe_died(&mut self, index: usize) {
        let Some(mut probe) = self.probes.get_mut(index).and_then(Option::take) else {
            return;
        };
        self.unwatch(probe.pidfd.as_fd());
        kill_session(probe.pid, probe.start_ticks);
        self.shared.live.free_slot(probe.slot);
        self.forget_probe_group(probe.about.task, probe.slot);
        self.children_changed = true;
        let id = || Id::Pid(Pid::from_raw(probe.pid));
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        let end = again(|| waitid(id(), flags));
        let value = match end {
            Ok(WaitStatus::Exited(_, code)) if !probe.is_overdue => Some(code),
            _ => None,
        };
        let failure = match end {
            _ if probe.is_overdue => "health check timed out".to_owned(),
            Ok(WaitStatus::Exited(_, 0)) => String::new(),
            Ok(WaitStatus::Exited(_, code)) => {
                let output = tail(&mut probe.output);
                format!("command returned non-zero exit status {code} with output {output:?}")
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("command died of {signal}"),
            end => format!("command ended in an unknown way: {end:?}"),
        };
        self.report.probed.push(wire::Probed {
            failure,
            value,
            ..probe.about
        });
    }
}

/// Kills the probe of a dead keeper, if this is still it: our child by now, or known by the task's HOME. What the
/// shared mapping says is no proof.
pub(super) fn end_orphan(pid: i32, start_ticks: u32, mark: &Mark) {
    let me = std::process::id() as i32;
    let is_it = |stat: &process::Stat| {
        stat.start_ticks as u32 == start_ticks && (stat.parent == me || mark.has_home(pid))
    };
    if let Some(stat) = process::stat(pid).filter(is_it) {
        kill_session(pid, stat.start_ticks);
    }
}

/// Everything in the session that a probe leads, and below it.
fn kill_session(pid: i32, start_ticks: u64) {
    let killed = tree::kill_all(|snapshot| {
        let mut found = snapshot.below(pid, None);
        // Younger than the probe: an older session of this number is somebody else's.
        let session = snapshot.in_session(pid);
        found.extend(session.filter(|stat| stat.start_ticks >= start_ticks));
        found
    });
    if let Err(error) = killed {
        tracing::error!("cannot kill the health check {pid}: {error}");
    }
}

/// A file in memory that takes so much and no more: writing beyond that is an error of the script's.
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
