//! Memory that has run out, and what else a run has used of its cgroup: watched, told, put into
//! its end.

use std::os::fd::AsFd;

use super::{keeper::Keeper, poller::Token, runs::Memory, spawn::bytes};
use crate::{
    journal::{How, Usage},
    sys::{clock::now, process},
};

impl Keeper {
    /// What a run used, for its end.
    pub(super) fn used_by(&self, index: usize) -> Option<Usage> {
        let run = self.runs.get(index).filter(|run| run.limited)?;
        let group = self.tasks.group_of(run)?;
        let used = group.usage();
        Some(Usage {
            cpu_us: used.cpu_us,
            throttled_us: used.throttled_us,
            memory_peak: used.memory_peak,
            memory_limit: used.memory_limit,
            oom_kills: used.oom_kills,
            pids_peak: used.pids_peak,
            pids_refused: used.pids_refused,
        })
    }

    /// Watches for the moment when the memory of a run runs out. Its end tells too, so a run may do
    /// without.
    pub(super) fn watch_memory(&mut self, index: usize, is_new: bool) {
        let limited = self.runs.get(index).filter(|run| run.limited);
        let Some(group) = limited.and_then(|run| self.tasks.group_of(run)) else {
            return;
        };
        let told = match is_new {
            true => 0,
            false => group.usage().oom_kills.unwrap_or_default(),
        };
        let watched = group.watch_memory().and_then(|fd| {
            let Some(fd) = fd else { return Ok(None) };
            self.poller.watch(fd.as_fd(), Token::Memory, index)?;
            Ok(Some(Memory {
                event: fd,
                told,
                told_at: 0,
            }))
        });
        match watched {
            Ok(memory) => {
                if let Some(run) = self.runs.get_mut(index) {
                    run.memory = memory;
                }
            }
            Err(error) => tracing::warn!("no event tells when memory runs out: {error}"),
        }
    }

    /// The memory of a run that is over tells nothing more.
    pub(super) fn unwatch_memory(&mut self, index: usize) {
        if let Some(memory) = self.runs.get(index).and_then(|run| run.memory.as_ref()) {
            self.poller.forget(memory.event.as_fd());
        }
    }

    /// True when memory is the reason of a run's end: the kernel killed its first process, or
    /// another one of it a moment before it ended with an error. A run that was stopped did not
    /// end for memory. A kill that has not been told of and is no reason for the end is told.
    pub(super) fn ended_for_memory(&mut self, index: usize, usage: &Usage, how: &How) -> bool {
        /// From the death of one process to that of another that needed it, microseconds.
        const MOMENT_US: u64 = 1_000_000;
        let Some(run) = self.runs.get(index) else {
            return false;
        };
        let (told, told_at) = match &run.memory {
            Some(memory) => (memory.told, memory.told_at),
            None => (0, 0),
        };
        let fresh = usage.oom_kills().saturating_sub(told);
        let is_recent = fresh > 0 || (told_at > 0 && now().boot_us < told_at + MOMENT_US);
        let is_killed = matches!(how, How::Signaled(signal) if *signal as i32 == libc::SIGKILL);
        let is_error = matches!(how, How::Exited(code) if *code > 0);
        let is_reason = !run.stopping && ((is_killed && fresh > 0) || (is_error && is_recent));
        if fresh > 0 && !is_reason {
            let text = killed_for_memory(fresh, usage.memory_limit, usage.memory_peak);
            self.notice(text, run.key);
        }
        is_reason
    }

    /// Something happened to a run's memory. cgroup v1 says so a moment before it has killed:
    /// hence a second look.
    pub(super) fn memory_changed(&mut self, index: usize) {
        /// How long the kernel may take for a kill, microseconds.
        const MOMENT_US: u64 = 50_000;
        self.memory_ran_out(index);
        self.cgroups.look_again(index, now().boot_us + MOMENT_US);
    }

    /// The second looks that are due.
    pub(super) fn look_at_memory(&mut self, clock: u64) {
        for index in self.cgroups.take_looks(clock) {
            self.memory_ran_out(index);
        }
    }

    /// Tells that the kernel killed processes of a run for its memory; when the first process is
    /// among them, the run's end says it.
    fn memory_ran_out(&mut self, index: usize) {
        let Some(run) = self.runs.get(index) else {
            return;
        };
        let (key, pid) = (run.key, run.pid);
        let used = self.tasks.group_of(run).map(|group| group.usage());
        let used = used.unwrap_or_default();
        let run = self.runs.get_mut(index);
        let Some(memory) = run.and_then(|run| run.memory.as_mut()) else {
            return;
        };
        let mut events = [0; 4096];
        while matches!(nix::unistd::read(&memory.event, &mut events), Ok(1..)) {}
        let kills = used.oom_kills.unwrap_or_default();
        let fresh = kills.saturating_sub(memory.told);
        let lives = process::stat(pid).is_some_and(|stat| !stat.is_dead());
        if fresh > 0 && lives {
            memory.told = kills;
            memory.told_at = now().boot_us;
            let text = killed_for_memory(fresh, used.memory_limit, used.memory_peak);
            self.notice(text, key);
        }
    }
}

fn killed_for_memory(count: u64, limit: Option<u64>, peak: Option<u64>) -> String {
    let (limit, peak) = (bytes(limit), bytes(peak));
    format!("out of memory: the kernel killed {count} of its processes; limit {limit}, peak {peak}")
}
