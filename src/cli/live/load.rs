//! What processes use, for the table of the live view. It is measured at most once a second; the
//! use of the processor is a share of one core since the measurement before.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::engine::{
    history::TaskStatus,
    store::{Measure, measure},
};

/// Between two measurements.
const PAUSE: Duration = Duration::from_secs(1);

/// What one process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Load {
    /// The share of one core since the measurement before.
    pub cpu: Option<f64>,
    /// Memory in bytes.
    pub memory: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Loads {
    looked_at: Option<Instant>,
    /// By name of a process: the number of its run, and the seconds that it had used when it was
    /// measured.
    before: HashMap<String, (u32, f64)>,
    now: HashMap<String, Load>,
}

impl Loads {
    /// Measures, unless that was done less than a second ago.
    pub fn look(&mut self, status: &TaskStatus) {
        let since = self.looked_at.map(|at| at.elapsed());
        if since.is_some_and(|since| since < PAUSE) {
            return;
        }
        self.looked_at = Some(Instant::now());
        let mut measured = status.clone();
        measure(&mut measured, Measure::Brief);
        self.take(&measured, since);
    }

    /// Takes in what was measured; `since` is the time since the measurement before.
    fn take(&mut self, measured: &TaskStatus, since: Option<Duration>) {
        let before = std::mem::take(&mut self.before);
        self.now.clear();
        for process in &measured.processes {
            let Some(run) = process.runs.last().filter(|run| run.stopped_at.is_none()) else {
                continue;
            };
            let Some(usage) = &run.usage else { continue };
            let mut load = Load {
                cpu: None,
                memory: usage.memory,
            };
            if let Some(seconds) = usage.cpu_seconds {
                if let (Some((number, earlier)), Some(since)) = (before.get(&process.name), since)
                    && *number == run.run
                {
                    let share = (seconds - earlier) / since.as_secs_f64();
                    load.cpu = Some(share.max(0.0));
                }
                self.before.insert(process.name.clone(), (run.run, seconds));
            }
            self.now.insert(process.name.clone(), load);
        }
    }

    /// True when at least one process was measured.
    pub fn is_known(&self) -> bool {
        !self.now.is_empty()
    }

    pub fn of(&self, process: &str) -> Load {
        self.now.get(process).copied().unwrap_or_default()
    }

    #[cfg(test)]
    pub fn with(loads: &[(&str, Load)]) -> Loads {
        Loads {
            now: loads
                .iter()
                .map(|(name, load)| ((*name).to_owned(), *load))
                .collect(),
            ..Loads::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::live::frame::tests::status;
    use crate::engine::history::UsageStatus;

    #[test]
    fn the_share_is_what_was_used_since_the_last_look() {
        let mut loads = Loads::default();
        let mut status = status();
        let index = status
            .processes
            .iter()
            .position(|process| {
                process
                    .runs
                    .last()
                    .is_some_and(|run| run.stopped_at.is_none())
            })
            .unwrap();
        let name = status.processes[index].name.clone();
        let mut used = |loads: &mut Loads, seconds, since| {
            let run = status.processes[index].runs.last_mut().unwrap();
            run.usage = Some(Box::new(UsageStatus {
                cpu_seconds: Some(seconds),
                memory: Some(7),
                ..UsageStatus::default()
            }));
            loads.take(&status, since);
        };
        used(&mut loads, 1.0, None);
        assert_eq!(
            loads.of(&name),
            Load {
                cpu: None,
                memory: Some(7)
            }
        );
        used(&mut loads, 2.0, Some(Duration::from_secs(2)));
        assert_eq!(loads.of(&name).cpu, Some(0.5));
        assert_eq!(loads.of("nobody"), Load::default());
    }
}
