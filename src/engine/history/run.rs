//! One run of a process as its records tell it, and as programs are shown it.

use super::{
    past::exit_of, signal::Signal, status::RunStatus, usage_status::out_of_memory,
    wall_time::WallTime,
};
use crate::{
    engine::plan::RunState,
    journal::{How, Start, Usage},
};

/// One run, as its records tell it. Times are microseconds since 1970, 0 while there is none.
#[derive(Debug)]
pub(super) struct Run {
    pub number: u32,
    pub pid: u32,
    pub forked_us: u64,
    pub started_us: u64,
    pub healthy_us: u64,
    pub end: Option<(How, u64)>,
    pub group: Option<Box<str>>,
    /// The measured usage; known once the run is over.
    pub usage: Option<Box<Usage>>,
    pub out_of_memory: bool,
    /// Why the run has to end, and the state that it then counts as, whatever its exit code says.
    pub condemned: Option<(RunState, Box<str>)>,
    /// It was asked to stop, and its exit code says that it did.
    pub stopped: bool,
}

impl Run {
    /// A run whose start was recorded at `wall_us`.
    pub fn begin(start: &Start, wall_us: u64) -> Run {
        Run {
            number: start.run,
            pid: start.pid,
            forked_us: wall_us,
            started_us: 0,
            healthy_us: 0,
            end: None,
            group: group_of(&start.group),
            usage: None,
            out_of_memory: false,
            condemned: None,
            stopped: false,
        }
    }

    /// A run that lives has to end; the first reason counts. One that has ended is what it is.
    pub fn condemn(&mut self, state: RunState, why: String) {
        if self.end.is_none() {
            self.condemned.get_or_insert((state, why.into()));
        }
    }

    /// The state at this moment.
    pub fn state(&self) -> RunState {
        match &self.end {
            Some((how, _)) => match &self.condemned {
                Some((state, _)) => *state,
                None => exit_of(Some(how), self.out_of_memory).state(),
            },
            None if self.started_us > 0 => RunState::Running,
            None => RunState::Forked,
        }
    }

    /// The run as programs are shown it.
    pub fn status(&self) -> RunStatus {
        let how = self.end.as_ref().map(|(how, _)| how);
        let exit_code = match how {
            Some(How::Exited(code)) => Some(*code as i32),
            Some(How::LaunchFailed(failure)) => match failure.exec_errno as i32 {
                libc::ENOENT => Some(127),
                libc::EACCES => Some(126),
                _ => None,
            },
            _ => None,
        };
        let time = |wall_us: u64| (wall_us > 0).then(|| WallTime::from_micros(wall_us));
        RunStatus {
            run: self.number,
            state: self.state(),
            exit_code,
            signal: match how {
                Some(How::Signaled(signal)) => Some(Signal(*signal)),
                _ => None,
            },
            stopped: self.stopped && self.condemned.is_none() && !self.out_of_memory,
            reason: self.reason(how),
            pid: (self.pid != 0).then_some(self.pid),
            forked_at: time(self.forked_us),
            started_at: time(self.started_us),
            healthy_at: time(self.healthy_us),
            stopped_at: self.end.as_ref().map(|(_, at)| WallTime::from_micros(*at)),
            cgroup: self.group.as_ref().map(|name| name.to_string()),
            usage: self.usage.as_deref().map(|usage| Box::new(usage.into())),
        }
    }

    fn reason(&self, how: Option<&How>) -> Option<String> {
        if let Some((_, why)) = &self.condemned {
            return Some(why.to_string());
        }
        match how {
            Some(How::LaunchFailed(failure)) => not_empty(&failure.reason),
            Some(How::Lost(lost)) => not_empty(&lost.reason),
            Some(_) if self.out_of_memory => self.usage.as_deref().map(out_of_memory),
            _ => None,
        }
    }
}

/// The name of a run's cgroup, if it has one.
pub(super) fn group_of(name: &str) -> Option<Box<str>> {
    (!name.is_empty()).then(|| name.into())
}

/// A text of a record, where an empty one means that there is none.
pub(super) fn not_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
