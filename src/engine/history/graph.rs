//! The DAG of a task for people, and the critical path of one that is over.
//!
//! Pure: a task, with its status if it has begun, in; nodes, edges and times out. It draws nothing:
//! the caller does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    in_words::InWords,
    status::{ProcessStatus, RunStatus, TaskStatus},
    wall_time::WallTime,
};
use crate::{
    engine::plan::RunState,
    task::{Condition, Task},
};

/// All processes of a task and what they wait for.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// In the order in which they could start; equals in the order of the task file.
    pub nodes: Vec<GraphNode>,
    /// The path that made the task take as long as it did, first to last, with how long each of its
    /// processes waited and took. Empty while the task is not over.
    pub critical: Vec<CriticalStep>,
}

/// One process of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphNode {
    /// The name of the process.
    pub name: String,
    /// True for a process of the finalizing plan.
    pub is_final: bool,
    /// The length of the longest chain of processes that must come before it.
    pub depth: usize,
    /// The names of the processes that it waits for, each with the condition; `None` for an order.
    pub after: Vec<(String, Option<Condition>)>,
    /// The state of the process for people, if the task has begun.
    pub state: Option<InWords>,
    /// How long all its runs took together, if any has ended.
    pub took: Option<Duration>,
}

/// One process of the critical path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriticalStep {
    /// The name of the process.
    pub name: String,
    /// The time from the event that it waited for (or the task's beginning) to its first run.
    pub waited: Duration,
    /// The time from its first run to the event that the next process waited for, or to its last
    /// end.
    pub took: Duration,
}

impl Graph {
    /// The graph of `task`, with what is known of its runs.
    pub fn of(task: &Task, status: Option<&TaskStatus>) -> Graph {
        let edges = edges(task);
        let depths = depths(task, &edges);
        let process = |name: &str| {
            let mut processes = status?.processes.iter();
            processes.find(|process| process.name == name)
        };
        let mut nodes: Vec<GraphNode> = task
            .processes
            .iter()
            .map(|rules| {
                let known = process(&rules.name);
                GraphNode {
                    name: rules.name.clone(),
                    is_final: rules.is_final,
                    depth: depths.get(rules.name.as_str()).copied().unwrap_or_default(),
                    after: edges
                        .get(rules.name.as_str())
                        .map(|after| {
                            let names = after.iter();
                            names
                                .map(|(name, until)| ((*name).to_owned(), *until))
                                .collect()
                        })
                        .unwrap_or_default(),
                    state: known.map(ProcessStatus::in_words),
                    took: known.and_then(took),
                }
            })
            .collect();
        nodes.sort_by_key(|node| (node.is_final, node.depth));
        Graph {
            critical: status.map_or_else(Vec::new, |status| critical(task, &edges, status)),
            nodes,
        }
    }
}

/// By process, the processes that it waits for, each with the condition; `None` for an order.
type Edges<'t> = BTreeMap<&'t str, Vec<(&'t str, Option<Condition>)>>;

fn edges(task: &Task) -> Edges<'_> {
    let mut edges: Edges<'_> = BTreeMap::new();
    for constraint in &task.constraints {
        for pair in constraint.order.windows(2) {
            let after = edges.entry(pair[1].as_str()).or_default();
            let edge = (pair[0].as_str(), None);
            if !after.contains(&edge) {
                after.push(edge);
            }
        }
    }
    for process in &task.processes {
        for (name, condition) in &process.after {
            let after = edges.entry(process.name.as_str()).or_default();
            after.push((name.as_str(), Some(*condition)));
        }
    }
    edges
}

/// The length of the longest chain to every process. A validated task has no cycle; the rounds are
/// bounded, so one that has a cycle still comes to an end here.
fn depths<'t>(task: &'t Task, edges: &Edges<'t>) -> BTreeMap<&'t str, usize> {
    let mut depths: BTreeMap<&str, usize> = task
        .processes
        .iter()
        .map(|process| (process.name.as_str(), 0))
        .collect();
    for _ in 0..task.processes.len() {
        let mut changed = false;
        for (name, after) in edges {
            let before = after.iter().filter_map(|(other, _)| depths.get(other));
            let depth = before.max().map_or(0, |depth| depth + 1);
            if let Some(known) = depths.get_mut(name)
                && *known < depth
            {
                *known = depth;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    depths
}

fn took(process: &ProcessStatus) -> Option<Duration> {
    let ended: Vec<Duration> = process.runs.iter().filter_map(RunStatus::took).collect();
    (!ended.is_empty()).then(|| ended.iter().sum())
}

/// When `condition` became true of `process`.
fn became_true(process: &ProcessStatus, condition: Option<Condition>) -> Option<WallTime> {
    let mut runs = process.runs.iter();
    match condition {
        Some(Condition::Started) => runs.find_map(|run| run.started_at),
        Some(Condition::Healthy) => runs.find_map(|run| run.healthy_at),
        Some(Condition::Succeeded) => {
            let success = |run: &RunStatus| run.state == RunState::Success;
            runs.find_map(|run| run.stopped_at.filter(|_| success(run)))
        }
        None | Some(Condition::Completed | Condition::Failed) => last_end(process),
    }
}

fn last_end(process: &ProcessStatus) -> Option<WallTime> {
    let mut runs = process.runs.iter().rev();
    runs.find_map(|run| run.stopped_at)
}

fn first_start(process: &ProcessStatus) -> Option<WallTime> {
    process.runs.iter().find_map(|run| run.forked_at)
}

/// Goes back from the regular process that ended last, each step to the process whose condition
/// came true last of all that were waited for.
fn critical(task: &Task, edges: &Edges<'_>, status: &TaskStatus) -> Vec<CriticalStep> {
    let began = status.states.first().map(|state| state.at);
    let (true, Some(began)) = (status.state.is_terminal(), began) else {
        return Vec::new();
    };
    let find = |name: &str| status.processes.iter().find(|process| process.name == name);
    let regular = task
        .processes
        .iter()
        .filter(|p| !p.is_final && !p.ephemeral);
    let last = regular
        .filter_map(|rules| find(&rules.name))
        .filter_map(|process| Some((last_end(process)?, process)))
        .max_by_key(|(end, _)| *end);
    let mut steps = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = last;
    while let Some((until, process)) = next {
        let Some(start) = first_start(process) else {
            break;
        };
        if !seen.insert(process.name.as_str()) {
            break;
        }
        let after = edges.get(process.name.as_str()).into_iter().flatten();
        next = after
            .filter_map(|(name, condition)| {
                let other = find(name)?;
                Some((became_true(other, *condition)?, other))
            })
            .max_by_key(|(at, _)| *at);
        steps.push(CriticalStep {
            name: process.name.clone(),
            waited: start.since(next.map_or(began, |(at, _)| at)),
            took: until.since(start),
        });
    }
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Constraint, Process};

    fn task() -> Task {
        let named = |name: &str| Process::named(name.to_owned());
        let mut last = named("last");
        last.after.insert("b".to_owned(), Condition::Started);
        let mut tidy = named("tidy");
        tidy.is_final = true;
        let mut task = Task::of(
            "t".to_owned(),
            vec![last, named("b"), named("a"), named("c"), tidy],
        );
        task.constraints.push(Constraint {
            order: vec!["a".to_owned(), "b".to_owned()],
        });
        task
    }

    #[test]
    fn nodes_come_in_the_order_of_starting() {
        let graph = Graph::of(&task(), None);
        let names: Vec<(&str, usize)> = graph
            .nodes
            .iter()
            .map(|node| (node.name.as_str(), node.depth))
            .collect();
        assert_eq!(
            names,
            [("a", 0), ("c", 0), ("b", 1), ("last", 2), ("tidy", 0)]
        );
        assert_eq!(
            graph.nodes[3].after,
            [("b".to_owned(), Some(Condition::Started))]
        );
        assert!(graph.critical.is_empty());
    }

    #[test]
    fn the_critical_path_goes_back_from_the_last_end() {
        let run = |from: u32, to: u32| {
            format!(
                r#"{{"run":0,"state":"SUCCESS","exit_code":0,"signal":null,"reason":null,"pid":1,
                "forked_at":"2026-01-01T00:00:{from:02}Z","started_at":"2026-01-01T00:00:{from:02}Z",
                "stopped_at":"2026-01-01T00:00:{to:02}Z"}}"#
            )
        };
        let process = |name: &str, run: String| {
            format!(
                r#"{{"name":"{name}","final":false,"ephemeral":false,"daemon":false,"state":"SUCCESS",
                "waiting_for":[],"totals":{{"success":1,"failed":0,"killed":0,"lost":0}},"runs":[{run}]}}"#
            )
        };
        let processes = [
            process("last", run(7, 20)),
            process("b", run(5, 9)),
            process("a", run(1, 4)),
            process("c", run(1, 15)),
        ];
        let status = format!(
            r#"{{"task_id":"t","name":"t","state":"SUCCESS","user":"u","sandbox":"/s","journal":"/j",
            "root_pid":null,"keeper_pid":null,"runner_pid":null,"covered":true,"ports":{{}},
            "states":[{{"state":"ACTIVE","at":"2026-01-01T00:00:00Z"}}],"deadline":null,"notices":[],
            "processes":[{}]}}"#,
            processes.join(",")
        );
        let status: TaskStatus = serde_json::from_str(&status).unwrap();
        let steps: Vec<(String, u64, u64)> = Graph::of(&task(), Some(&status))
            .critical
            .into_iter()
            .map(|step| (step.name, step.waited.as_secs(), step.took.as_secs()))
            .collect();
        let expected = [("a", 1, 3), ("b", 1, 0), ("last", 2, 13)];
        let expected = expected.map(|(name, waited, took)| (name.to_owned(), waited, took));
        assert_eq!(steps, expected);
    }
}
