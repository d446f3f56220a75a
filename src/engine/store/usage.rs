//! The usage of living runs, measured on this machine: by their cgroups, else by their processes.
//!
//! The usage of a run that is over comes from its end's record, and is left as it is.

use std::{collections::HashMap, fs};

use crate::{
    engine::history::{RunStatus, TaskStatus, UsageStatus},
    resources::{Group, Hierarchies, Usage, usage_of_processes},
    sys::stat::ProcessStat,
};

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Time, memory and processes.
    Brief,
    /// All that the kernel tells.
    Whole,
}

/// Measures the living runs of `status`, and puts what they use into it.
pub fn measure(status: &mut TaskStatus, how: Measure) {
    Look::default().measure(status, how);
}

/// One look at this machine, for all tasks that are measured with it: what several of them need is
/// found once, and only if one of them needs it.
#[derive(Debug, Default)]
pub struct Look {
    hierarchies: Option<Hierarchies>,
    trees: Option<Trees>,
}

impl Look {
    /// As [`measure`]. A process that began after this look is not seen.
    pub fn measure(&mut self, status: &mut TaskStatus, how: Measure) {
        let lives = |run: &RunStatus| run.stopped_at.is_none() && run.pid.is_some();
        let mut site: Option<Group> = None;
        for process in &mut status.processes {
            let Some(run) = process.runs.last_mut().filter(|run| lives(run)) else {
                continue;
            };
            let usage = match &run.cgroup {
                Some(name) => {
                    let hierarchies = self.hierarchies.get_or_insert_with(Hierarchies::find);
                    let site = site.get_or_insert_with(|| Group::of(hierarchies, &status.cgroups));
                    of_group(&site.below(name), how)
                }
                None => {
                    let trees = self.trees.get_or_insert_with(Trees::look);
                    usage_of_processes(&trees.of(run.pid.unwrap_or_default() as i32))
                }
            };
            run.usage = Some(Box::new(shown(&usage)));
        }
    }
}

/// What a group tells. Where it has no controller for time or memory, its processes tell that.
fn of_group(group: &Group, how: Measure) -> Usage {
    let told = match how {
        Measure::Brief => group.usage_now(),
        Measure::Whole => group.usage(),
    };
    if told.cpu_us.is_some() && told.memory.is_some() {
        return told;
    }
    let counted = usage_of_processes(&group.processes());
    Usage {
        cpu_us: told.cpu_us.or(counted.cpu_us),
        memory: told.memory.or(counted.memory),
        pids: told.pids.or(counted.pids),
        ..told
    }
}

/// A measurement in the form that programs read.
fn shown(usage: &Usage) -> UsageStatus {
    let seconds = |us: Option<u64>| us.map(|us| us as f64 / 1e6);
    UsageStatus {
        cpu_seconds: seconds(usage.cpu_us),
        throttled_seconds: seconds(usage.throttled_us),
        memory: usage.memory,
        memory_peak: usage.memory_peak,
        memory_limit: usage.memory_limit,
        oom_kills: usage.oom_kills,
        pids: usage.pids,
        pids_peak: usage.pids_peak,
        pids_refused: usage.pids_refused,
    }
}

/// The processes of this machine by parent and by session.
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

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    use super::*;

    /// A task whose only run has this first process.
    fn status(pid: u32) -> TaskStatus {
        let text = format!(
            r#"{{"task_id": "t", "name": "t", "state": "ACTIVE", "user": "u", "sandbox": "/s",
            "journal": "/j", "root_pid": 1, "keeper_pid": 1, "runner_pid": 1, "covered": true,
            "ports": {{}}, "states": [], "deadline": null, "notices": [], "processes": [{{
            "name": "p", "final": false, "ephemeral": false, "daemon": false, "state": "RUNNING",
            "waiting_for": [], "next_start_at": null,
            "totals": {{"success": 0, "failed": 0, "killed": 0, "lost": 0}},
            "runs": [{{"run": 0, "state": "RUNNING", "exit_code": null, "signal": null,
            "reason": null, "pid": {pid}, "forked_at": "2026-11-30T04:32:18.059Z",
            "started_at": null, "healthy_at": null, "stopped_at": null}}]}}]}}"#
        );
        serde_json::from_str(&text).expect("a status")
    }

    fn processes(look: &mut Look, pid: u32) -> Option<u64> {
        let mut status = status(pid);
        look.measure(&mut status, Measure::Whole);
        status.processes[0].runs[0].usage.as_ref()?.pids
    }

    #[test]
    fn all_tasks_are_measured_by_one_look() {
        let mut look = Look::default();
        assert!(processes(&mut look, std::process::id()).is_some());
        // What begins after the look is not in it, so a second look would be seen.
        let mut child = Command::new("sh")
            .args(["-c", "sleep 1000 & echo begun; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let found = processes(&mut look, child.id());
        let anew = processes(&mut Look::default(), child.id());
        let sleeper = Trees::look().of(child.id() as i32);
        for pid in sleeper {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        child.wait().unwrap();
        assert_eq!((found, anew), (Some(1), Some(2)));
    }
}
