//! Tasks for tests: simple ones, and any that validation accepts.

use proptest::prelude::*;

use crate::task::{Backoff, Condition, Constraint, Period, Process, Task};

pub(super) fn process(name: usize) -> Process {
    Process {
        cmdline: Some(String::new()),
        min_duration: Period::from_secs(1),
        ..Process::named(format!("p{name}"))
    }
}

pub(super) fn task(processes: Vec<Process>, orders: Vec<Vec<usize>>) -> Task {
    let name = |index: usize| format!("p{index}");
    let order = |order: Vec<usize>| Constraint {
        order: order.into_iter().map(name).collect(),
    };
    Task {
        constraints: orders.into_iter().map(order).collect(),
        ..Task::of("t".to_owned(), processes)
    }
}

/// Any task that validation accepts: edges go from lower to higher numbers within a stage, nothing
/// waits for a daemon, nothing that counts waits for an ephemeral process.
pub(super) fn any_task() -> impl Strategy<Value = Task> {
    let flags = (
        0..4u32,
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.25),
        0..3u64,
        1..6u32,
        prop::option::weighted(0.2, 1..40u64),
        prop::option::weighted(0.2, 1..20u64),
        prop::bool::weighted(0.2),
    );
    let processes = prop::collection::vec(flags, 1..9);
    (
        processes,
        prop::collection::vec((0..9usize, 0..9usize), 0..14),
        prop::collection::vec((0..9usize, 0..9usize, any_condition()), 0..5),
        0..3u32,
        0..4u32,
        (1..20u64, prop::option::weighted(0.5, 1..20u64)),
    )
        .prop_map(
            |(flags, pairs, conditions, max_failures, max_concurrency, (wait, kept))| {
                let mut processes: Vec<Process> = flags
                    .into_iter()
                    .enumerate()
                    .map(
                        |(
                            index,
                            (
                                failures,
                                daemon,
                                ephemeral,
                                is_final,
                                min,
                                runs,
                                stop,
                                timeout,
                                grows,
                            ),
                        )| {
                            Process {
                                timeout: timeout.map(Period::from_secs),
                                backoff: grows.then(Backoff::default),
                                max_failures: failures,
                                max_runs: runs,
                                daemon,
                                ephemeral,
                                is_final,
                                min_duration: Period::from_secs(min),
                                stop_timeout: stop.map(Period::from_secs),
                                ..process(index)
                            }
                        },
                    )
                    .collect();
                for (from, to, condition) in conditions {
                    let stage = |index: usize| processes.get(index).map(|process| process.is_final);
                    if from < to && to < processes.len() && stage(from) == stage(to) {
                        let name = processes[from].name.clone();
                        processes[to].after.insert(name, condition);
                    }
                }
                let fits = |(from, to): &(usize, usize)| {
                    let (Some(from), Some(to)) = (processes.get(*from), processes.get(*to)) else {
                        return false;
                    };
                    from.name < to.name
                        && from.is_final == to.is_final
                        && !from.daemon
                        && (!from.ephemeral || to.ephemeral)
                };
                let orders = pairs
                    .into_iter()
                    .filter(fits)
                    .map(|(from, to)| vec![from, to])
                    .collect();
                Task {
                    max_failures,
                    max_concurrency,
                    finalization_wait: Period::from_secs(wait),
                    final_wait: kept.map(|kept| Period::from_secs(kept.min(wait))),
                    ..task(processes.clone(), orders)
                }
            },
        )
}

pub(super) fn any_condition() -> impl Strategy<Value = Condition> {
    prop::sample::select(vec![
        Condition::Started,
        Condition::Healthy,
        Condition::Succeeded,
        Condition::Completed,
        Condition::Failed,
    ])
}
