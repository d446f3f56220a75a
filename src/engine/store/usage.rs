//! What runs use, for whoever looks: of those that live by a look at the machine, of those that are over
//! by their end's record.

use std::{collections::HashMap, fs};

use crate::{
    engine::history::TaskStatus,
    resources::{Group, Hierarchies, usage_of_processes},
    sys::stat::ProcessStat,
};

/// How much of what there is to know is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Time, memory and processes.
    Brief,
    /// Everything.
    Whole,
}

/// Looks at the runs of `status` that live.
pub fn measure(status: &mut TaskStatus, how: Measure) {
    let lives =
        |run: &crate::engine::history::RunStatus| run.stopped_at.is_none() && run.pid.is_some();
    let mut live = status
        .processes
        .iter_mut()
        .flat_map(|process| process.runs.last_mut());
    if !live.any(|run| lives(run)) {
        return;
    }
    // One look each for all of them, and only if somebody needs it.
    let mut site: Option<Group> = None;
    let mut trees: Option<Trees> = None;
    for process in &mut status.processes {
        let Some(run) = process.runs.last_mut().filter(|run| lives(run)) else {
            continue;
        };
        let usage = match &run.cgroup {
            Some(name) => {
                let group =
                    site.get_or_insert_with(|| Group::of(&Hierarchies::find(), &status.cgroups));
                let group = group.below(name);
                match how {
                    Measure::Brief => group.usage_now(),
                    Measure::Whole => group.usage(),
                }
            }
            None => {
                let trees = trees.get_or_insert_with(Trees::look);
                usage_of_processes(&trees.of(run.pid.unwrap_or_default() as i32))
            }
        };
        run.usage = Some(Box::new(usage.into()));
    }
}

/// Who descends from whom, and who is in whose session.
#[derive(Debug, Default)]
struct Trees {
    children: HashMap<i32, Vec<i32>>,
    sessions: HashMap<i32, Vec<i32>>,
}

impl Trees {
    fn look() -> Trees {
        let mut trees = Trees::default();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let Ok(Some(stat)) = ProcessStat::read(pid) else {
                continue;
            };
            if let (Some(parent), Some(session)) = (stat.field(4), stat.field(6)) {
                trees.children.entry(parent).or_default().push(pid);
                trees.sessions.entry(session).or_default().push(pid);
            }
        }
        trees
    }

    /// The tree of a run's first process.
    fn of(&self, first: i32) -> Vec<i32> {
        let mut found = vec![first];
        found.extend(self.sessions.get(&first).into_iter().flatten());
        let mut at = 0;
        while let Some(pid) = found.get(at) {
            let children = self.children.get(pid).into_iter().flatten();
            let fresh: Vec<i32> = children
                .filter(|pid| !found.contains(pid))
                .copied()
                .collect();
            found.extend(fresh);
            at += 1;
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}
