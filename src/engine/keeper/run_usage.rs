//! Memory that has run out, and what else a run has used of its cgroup: watched, told, put into
//! its end.

use std::os::fd::AsFd;

use super::{keeper::Keeper, poller::Token, runs::Phase, spawn::bytes};
use crate::{
    engine::ipc::Key,
    journal::{How, Notice, Usage},
    sys::{clock::now, process, zombie},
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
    pub(super) fn watch_memory(&mut self, index: usize) {
        let limited = self.runs.get(index).filter(|run| run.limited);
        let Some(group) = limited.and_then(|run| self.tasks.group_of(run)) else {
            return;
        };
        let watched = group.watch_memory().and_then(|fd| {
            let Some(fd) = fd else { return Ok(None) };
            self.poller.watch(fd.as_fd(), Token::Memory, index)?;
            Ok(Some(fd))
        });
        match watched {
            Ok(event) => {
                if let Some(run) = self.runs.get_mut(index) {
                    run.memory = event;
                }
            }
            Err(error) => tracing::warn!("no event tells when memory runs out: {error}"),
        }
    }

    /// The memory of a run that is over tells nothing more.
    pub(super) fn unwatch_memory(&mut self, index: usize) {
        if let Some(event) = self.runs.get(index).and_then(|run| run.memory.as_ref()) {
            self.poller.forget(event.as_fd());
        }
    }

    /// True when memory is the reason of a run's end: the kernel killed its first process, or
    /// another one of it a moment before it ended with an error. A run that was stopped did not
    /// end for memory. A kill that has not been told of and is no reason for the end is told.
    pub(super) fn ended_for_memory(&mut self, index: usize, usage: &Usage, how: &How) -> bool {
        let Some(run) = self.runs.get(index) else {
            return false;
        };
        let open = run.kills.open(usage.oom_kills());
        let is_killed = matches!(how, How::Signaled(signal) if *signal as i32 == libc::SIGKILL);
        let is_error = matches!(how, How::Exited(code) if *code > 0);
        let is_reason = !run.stopping && (is_killed || is_error) && open > 0;
        if open > 0 && !is_reason {
            self.tell_kills(run.key, open, usage.memory_limit, usage.memory_peak);
        }
        is_reason
    }

    /// Something happened to a run's memory.
    pub(super) fn memory_changed(&mut self, index: usize) {
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        if let Some(event) = &run.memory {
            let mut events = [0; 4096];
            while matches!(nix::unistd::read(event, &mut events), Ok(1..)) {}
        }
        run.kills.event(now().boot_us);
        self.look_at_kills(index);
    }

    /// The looks at memory that are due.
    pub(super) fn look_at_memory(&mut self, clock: u64) {
        for index in self.cgroups.take_looks(clock) {
            self.look_at_kills(index);
        }
    }

    /// Looks at how many processes of a run the kernel has killed for memory, and tells of those
    /// that cannot be the reason of its end any more.
    fn look_at_kills(&mut self, index: usize) {
        let Some(run) = self.runs.get(index) else {
            return;
        };
        if matches!(run.phase, Phase::Draining { .. } | Phase::Ended { .. }) {
            return;
        }
        let used = self.tasks.group_of(run).map(|group| group.usage());
        let used = used.unwrap_or_default();
        let (key, clock) = (run.key, now().boot_us);
        let is_dying = zombie::is_dead(run.pidfd.as_fd()) || process::is_dying(run.pid);
        let Some(run) = self.runs.get_mut(index) else {
            return;
        };
        let looked = run
            .kills
            .look(used.oom_kills.unwrap_or_default(), clock, is_dying);
        if let Some(at) = looked.again {
            self.cgroups.look_again(index, at);
        }
        if looked.tell > 0 {
            self.tell_kills(key, looked.tell, used.memory_limit, used.memory_peak);
        }
    }

    /// Records that the kernel killed processes of a run. A successor must know how many were told.
    fn tell_kills(&mut self, key: Key, count: u64, limit: Option<u64>, peak: Option<u64>) {
        let (limit, peak) = (bytes(limit), bytes(peak));
        let text = format!(
            "out of memory: the kernel killed {count} of its processes; limit {limit}, peak {peak}"
        );
        let notice = Notice {
            text,
            process: Some(key.process),
            run: Some(key.run),
            oom_kills: count,
        };
        self.record_notice(key.task, notice);
    }
}
