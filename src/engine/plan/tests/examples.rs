//! Single promises of the plan, each by an example.

use super::tasks::{process, task};
use crate::{
    engine::plan::{
        facts::{Command, Fact, Note},
        state::{Exit, TaskState},
        task::Plan,
    },
    task::Period,
};

#[test]
fn starts_are_in_the_order_of_the_file() {
    let task = task((0..5).map(process).collect(), vec![]);
    let decision = Plan::new(&task, 0).decide(0);
    let order: Vec<usize> = decision
        .commands
        .iter()
        .map(|command| match command {
            Command::Start { process, .. } => *process,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
}

#[test]
fn facts_that_race_with_a_stage_change_do_not_change_it() {
    let mut flaky = process(0);
    flaky.max_failures = 1;
    let task = task(vec![flaky, process(1)], vec![]);
    let mut plan = Plan::new(&task, 0);
    plan.decide(0);
    let started = |process| Fact::Started { process, run: 0 };
    let ended = |process, exit| Fact::Ended {
        process,
        run: 0,
        exit,
    };
    let cleaning = Fact::Entered {
        state: TaskState::Cleaning,
        outcome: TaskState::Failed,
        budget_us: 30_000_000,
        final_us: 0,
    };
    let orders = [
        [
            ended(0, Exit::Code(1)),
            ended(1, Exit::Code(0)),
            cleaning.clone(),
        ],
        [ended(0, Exit::Code(1)), cleaning, ended(1, Exit::Code(0))],
    ];
    for facts in orders {
        let mut plan = plan.clone();
        for fact in [started(0), started(1)].iter().chain(&facts) {
            plan.apply(fact, 10);
        }
        plan.note_empty();
        let entered: Vec<TaskState> = plan
            .decide(20)
            .notes
            .into_iter()
            .map(|note| match note {
                Note::Enter { state, .. } => state,
                Note::TimeOut { .. } => panic!("{note:?}"),
            })
            .collect();
        assert_eq!(entered, [TaskState::Finalizing, TaskState::Failed]);
    }
}

#[test]
fn an_own_stop_timeout_kills_before_the_budget_is_over() {
    let mut stubborn = process(0);
    stubborn.stop_timeout = Some(Period::from_secs(2));
    let task = task(vec![stubborn], vec![]);
    let mut plan = Plan::new(&task, 0);
    plan.decide(0);
    plan.apply(&Fact::Started { process: 0, run: 0 }, 0);
    let kill = Fact::KillRequested {
        now: false,
        budget_us: None,
    };
    plan.apply(&kill, 1_000_000);
    let decision = plan.decide(1_000_000);
    assert!(decision.commands.contains(&Command::StopAll));
    assert_eq!(decision.wake_at, Some(2_000_000));
    let decision = plan.decide(2_000_000);
    assert_eq!(decision.commands, [Command::TellLingering]);
    assert_eq!(decision.wake_at, Some(3_000_000));
    let decision = plan.decide(3_000_000);
    assert_eq!(decision.commands, [Command::KillRun { process: 0, run: 0 }]);
    assert_eq!(decision.wake_at, Some(31_000_000));
}

#[test]
fn killing_at_once_leaves_no_time_for_final_processes() {
    let mut last = process(1);
    last.is_final = true;
    let task = task(vec![process(0), last], vec![]);
    let mut plan = Plan::new(&task, 0);
    plan.decide(0);
    plan.apply(&Fact::Started { process: 0, run: 0 }, 0);
    let kill = Fact::KillRequested {
        now: true,
        budget_us: None,
    };
    plan.apply(&kill, 5);
    let decision = plan.decide(5);
    assert_eq!(decision.commands, [Command::KillAll, Command::AwaitEmpty]);
    let exit = Exit::Signal(9);
    plan.apply(
        &Fact::Ended {
            process: 0,
            run: 0,
            exit,
        },
        6,
    );
    plan.note_empty();
    let decision = plan.decide(7);
    assert!(matches!(
        decision.notes.as_slice(),
        [Note::Enter {
            state: TaskState::Killed,
            ..
        }]
    ));
    assert_eq!(decision.commands, [Command::Close]);
}

#[test]
fn a_run_over_its_time_is_noted_killed_and_failed() {
    let mut slow = process(0);
    slow.timeout = Some(Period::from_secs(5));
    slow.max_failures = 2;
    let task = task(vec![slow], vec![]);
    let mut plan = Plan::new(&task, 0);
    plan.decide(0);
    plan.apply(&Fact::Started { process: 0, run: 0 }, 1_000_000);
    assert_eq!(plan.decide(1_000_000).wake_at, Some(6_000_000));
    let decision = plan.decide(6_000_000);
    assert_eq!(decision.notes, [Note::TimeOut { process: 0, run: 0 }]);
    assert_eq!(decision.commands, []);
    // It counts where it stands in the journal: a run that had ended before is what it was.
    let mut ended = plan.clone();
    let end = Fact::Ended {
        process: 0,
        run: 0,
        exit: Exit::Code(0),
    };
    let late = Fact::TimedOut { process: 0, run: 0 };
    ended.apply(&end, 6_000_001);
    ended.apply(&late, 6_000_002);
    assert_eq!(ended.totals(0).success, 1);
    plan.apply(&late, 6_000_001);
    let decision = plan.decide(6_000_001);
    assert_eq!(decision.commands, [Command::KillRun { process: 0, run: 0 }]);
    plan.apply(&end, 6_000_002);
    assert_eq!(plan.totals(0).failed, 1);
}

#[test]
fn a_restart_asks_then_kills_and_starts_at_once_with_nothing_to_forgive() {
    let mut server = process(0);
    server.stop_timeout = Some(Period::from_secs(3));
    server.max_failures = 2;
    let task = task(vec![server], vec![]);
    let mut plan = Plan::new(&task, 0);
    plan.decide(0);
    let started = |run| Fact::Started { process: 0, run };
    let ended = |run, exit| Fact::Ended {
        process: 0,
        run,
        exit,
    };
    plan.apply(&started(0), 0);
    plan.apply(&ended(0, Exit::Code(1)), 1);
    assert_eq!(plan.counts(0), (1, 1));
    plan.decide(2_000_000);
    plan.apply(&started(1), 2_000_000);
    plan.apply(&Fact::RestartRequested { process: 0 }, 3_000_000);
    let decision = plan.decide(3_000_000);
    assert_eq!(decision.commands, [Command::StopRun { process: 0, run: 1 }]);
    assert_eq!(decision.wake_at, Some(6_000_000));
    let decision = plan.decide(6_000_000);
    assert_eq!(decision.commands, [Command::KillRun { process: 0, run: 1 }]);
    // However it ends: that was asked for.
    plan.apply(&ended(1, Exit::Code(1)), 6_000_001);
    assert_eq!(plan.counts(0), (0, 0));
    let totals = plan.totals(0);
    assert_eq!((totals.failed, totals.killed), (1, 1));
    let decision = plan.decide(6_000_001);
    assert_eq!(decision.commands, [Command::Start { process: 0, run: 2 }]);
}

/// A task that is stubborn, with a final process, on its way to its end.
fn stopping(final_wait: Option<u64>, budget_us: Option<u64>) -> (Plan, u64) {
    let mut last = process(1);
    last.is_final = true;
    let mut task = task(vec![process(0), last], vec![]);
    task.finalization_wait = Period::from_secs(30);
    task.final_wait = final_wait.map(Period::from_secs);
    let mut plan = Plan::new(&task, 0);
    plan.decide(0);
    plan.apply(&Fact::Started { process: 0, run: 0 }, 0);
    let kill = Fact::KillRequested {
        now: false,
        budget_us,
    };
    plan.apply(&kill, 0);
    plan.decide(0);
    let lingering = plan.deadline().expect("it stops");
    (plan, lingering)
}

#[test]
fn what_is_kept_for_final_processes_is_a_share_of_every_budget() {
    const S: u64 = 1_000_000;
    for (final_wait, budget, patience) in [
        (None, None, 30),
        (Some(5), None, 25),
        // A smaller budget is shared in the same proportion, of a larger one no more is kept.
        (Some(5), Some(12), 10),
        (Some(5), Some(60), 55),
        (Some(30), Some(12), 0),
    ] {
        let (_, killed_at) = stopping(final_wait, budget.map(|budget| budget * S));
        assert_eq!(killed_at, patience * S, "{final_wait:?} of {budget:?}");
    }
}

#[test]
fn a_final_process_runs_in_the_time_that_is_kept_for_it() {
    let (mut plan, killed_at) = stopping(Some(5), None);
    let all = [Command::KillAll, Command::AwaitEmpty];
    let decision = plan.decide(killed_at - 1);
    assert!(!decision.commands.contains(&Command::KillAll));
    assert_eq!(decision.wake_at, Some(killed_at));
    assert_eq!(plan.decide(killed_at).commands, all);
    assert_eq!(plan.decide(killed_at + 1).commands, [], "once");
    let exit = Exit::Signal(9);
    let end = Fact::Ended {
        process: 0,
        run: 0,
        exit,
    };
    plan.apply(&end, killed_at + 2);
    plan.note_empty();
    let decision = plan.decide(killed_at + 3);
    assert_eq!(decision.commands, [Command::Start { process: 1, run: 0 }]);
    assert_eq!(decision.wake_at, Some(30_000_000), "its own deadline");
}

#[test]
fn less_time_while_it_stops_is_shared_too() {
    let (mut plan, _) = stopping(Some(5), None);
    let kill = |budget_us| Fact::KillRequested {
        now: false,
        budget_us: Some(budget_us),
    };
    plan.apply(&kill(6_000_000), 1_000_000);
    assert_eq!(plan.deadline(), Some(6_000_000));
    plan.apply(&kill(60_000_000), 1_000_000);
    assert_eq!(plan.deadline(), Some(6_000_000), "never longer");
}

#[test]
fn a_final_process_without_time_is_named_at_the_end() {
    for final_wait in [None, Some(5)] {
        let (mut plan, _) = stopping(final_wait, None);
        // Not even SIGKILL ends it in time.
        plan.decide(30_000_000);
        let exit = Exit::Signal(9);
        let end = Fact::Ended {
            process: 0,
            run: 0,
            exit,
        };
        plan.apply(&end, 30_000_001);
        plan.note_empty();
        let notes = plan.decide(30_000_002).notes;
        let [
            Note::Enter {
                state: TaskState::Killed,
                without_time,
                ..
            },
        ] = notes.as_slice()
        else {
            panic!("{notes:?}");
        };
        assert_eq!(without_time, &[1]);
        assert_eq!(plan.skipped(), [false, true]);
    }
}

#[test]
fn what_waits_for_a_failure_that_will_not_heal_is_skipped() {
    let mut bad = process(0);
    bad.max_failures = 1;
    let mut task = task(
        vec![bad, process(1), process(2), process(3)],
        vec![vec![0, 1], vec![1, 2]],
    );
    task.max_failures = 2;
    let mut plan = Plan::new(&task, 0);
    plan.decide(0);
    assert_eq!(plan.skipped(), [false; 4]);
    plan.apply(&Fact::Started { process: 0, run: 0 }, 0);
    plan.apply(&Fact::Started { process: 3, run: 0 }, 0);
    let end = Fact::Ended {
        process: 0,
        run: 0,
        exit: Exit::Code(1),
    };
    plan.apply(&end, 1);
    plan.decide(1);
    assert_eq!(plan.state(), Some(TaskState::Active));
    assert_eq!(plan.skipped(), [false, true, true, false]);
    // A restart of the failed one changes that.
    plan.apply(&Fact::RestartRequested { process: 0 }, 2);
    assert_eq!(plan.skipped(), [false; 4]);
}
