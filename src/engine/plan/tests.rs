//! The plan against a naive model, and its promises under random DAGs, exits, kills, clocks and
//! crashes.
//!
//! The simulated keeper starts at most once, ends runs in random order, and reports emptiness; the
//! simulated crash throws the plan away and replays the journal into a new one. Cases: 256 by
//! default, PROPTEST_CASES=100000 for the whole (SPECIFICATION.md).

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    facts::{Command, Decision, Fact, Note},
    situation::Situation,
    state::{Exit, RunState, TaskState},
    task::Plan,
};
use crate::task::{Backoff, Condition, Constraint, Period, Process, Task};

fn process(name: usize) -> Process {
    Process {
        cmdline: Some(String::new()),
        min_duration: Period::from_secs(1),
        ..Process::named(format!("p{name}"))
    }
}

fn task(processes: Vec<Process>, orders: Vec<Vec<usize>>) -> Task {
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
fn any_task() -> impl Strategy<Value = Task> {
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
        1..20u64,
    )
        .prop_map(
            |(flags, pairs, conditions, max_failures, max_concurrency, wait)| {
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
                    ..task(processes.clone(), orders)
                }
            },
        )
}

fn any_condition() -> impl Strategy<Value = Condition> {
    prop::sample::select(vec![
        Condition::Started,
        Condition::Healthy,
        Condition::Succeeded,
        Condition::Completed,
        Condition::Failed,
    ])
}

/// One thing that happens to a simulated task.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The N-th live run ends like this.
    End(usize, Exit),
    /// The N-th live run is found healthy or not.
    Check(usize, bool),
    /// Somebody wants this process anew.
    Restart(usize),
    /// Time passes, milliseconds.
    Wait(u64),
    /// The runner dies and a new one replays.
    Crash,
    Kill {
        now: bool,
    },
    Reboot,
}

fn any_step() -> impl Strategy<Value = Step> {
    let exit = prop_oneof![
        5 => Just(Exit::Code(0)),
        3 => Just(Exit::Code(1)),
        1 => Just(Exit::Signal(9)),
        1 => Just(Exit::Signal(11)),
        1 => Just(Exit::Lost),
        1 => Just(Exit::LaunchFailed),
    ];
    prop_oneof![
        12 => (0..8usize, exit).prop_map(|(which, exit)| Step::End(which, exit)),
        3 => (0..8usize, prop::bool::weighted(0.8)).prop_map(|(which, healthy)| Step::Check(which, healthy)),
        2 => (0..9usize).prop_map(Step::Restart),
        4 => (1..3000u64).prop_map(Step::Wait),
        3 => Just(Step::Crash),
        1 => any::<bool>().prop_map(|now| Step::Kill { now }),
        1 => Just(Step::Reboot),
    ]
}

/// The naive model: keeps every end and derives everything from the whole list each time.
struct Naive<'t> {
    task: &'t Task,
    ends: Vec<(usize, RunState)>,
    /// Where in `ends` the last restart of a process was: what came before does not count.
    restarted: BTreeMap<usize, usize>,
    started: BTreeSet<usize>,
    healthy: BTreeSet<usize>,
    /// What was true once counts as true for ever.
    ever_succeeded: BTreeSet<usize>,
    ever_finished: BTreeSet<usize>,
    ever_gave_up: BTreeSet<usize>,
    skipped: BTreeSet<usize>,
}

impl Naive<'_> {
    /// Takes in what has become true.
    fn update(&mut self) {
        loop {
            let before = (self.ever_finished.len(), self.skipped.len());
            for process in 0..self.task.processes.len() {
                if self.count(process, RunState::Success) > 0 {
                    self.ever_succeeded.insert(process);
                }
                if self.has_finished(process) {
                    self.ever_finished.insert(process);
                }
                if self.gave_up(process) {
                    self.ever_gave_up.insert(process);
                }
            }
            for process in 0..self.task.processes.len() {
                if !self.waits_for(process).is_empty() && self.is_ruled_out(process) {
                    self.skipped.insert(process);
                }
            }
            if before == (self.ever_finished.len(), self.skipped.len()) {
                return;
            }
        }
    }

    /// Since its last restart.
    fn count(&self, process: usize, state: RunState) -> u32 {
        let from = self.restarted.get(&process).copied().unwrap_or_default();
        let of = self.ends[from..].iter();
        of.filter(|end| **end == (process, state)).count() as u32
    }

    fn has_failed(&self, process: usize) -> bool {
        !self.task.processes[process].ephemeral && self.gave_up(process)
    }

    fn gave_up(&self, process: usize) -> bool {
        let rules = &self.task.processes[process];
        if !rules.daemon && self.count(process, RunState::Success) > 0 {
            return false;
        }
        let failed = self.count(process, RunState::Failed);
        let losses = self.count(process, RunState::Killed) + self.count(process, RunState::Lost);
        let by_failures = rules.max_failures != 0 && failed >= rules.max_failures;
        let by_runs = rules.max_runs != 0 && failed + losses >= rules.max_runs;
        by_failures || by_runs
    }

    fn has_finished(&self, process: usize) -> bool {
        let rules = &self.task.processes[process];
        let succeeded = !rules.daemon && self.count(process, RunState::Success) > 0;
        succeeded || (rules.ephemeral && self.gave_up(process)) || self.is_skipped(process)
    }

    fn after(&self, process: usize) -> impl Iterator<Item = (usize, Condition)> + '_ {
        let after = self.task.processes[process].after.iter();
        after.filter_map(|(name, condition)| {
            let other = self.task.processes.iter().position(|p| p.name == *name);
            other.map(|other| (other, *condition))
        })
    }

    fn is_skipped(&self, process: usize) -> bool {
        self.skipped.contains(&process)
    }

    /// It was meant for the failure of something that ended well, or for the runs of something that
    /// was itself skipped.
    fn is_ruled_out(&self, process: usize) -> bool {
        self.after(process)
            .any(|(other, condition)| match condition {
                Condition::Failed => self.has_finished(other) && !self.gave_up(other),
                Condition::Completed => false,
                _ => self.is_skipped(other),
            })
    }

    fn holds(&self, process: usize, condition: Condition) -> bool {
        match condition {
            Condition::Started => self.started.contains(&process),
            Condition::Healthy => self.healthy.contains(&process),
            Condition::Succeeded => self.ever_succeeded.contains(&process),
            Condition::Completed => {
                self.ever_gave_up.contains(&process) || self.ever_finished.contains(&process)
            }
            Condition::Failed => self.ever_gave_up.contains(&process),
        }
    }

    /// What it still waits for.
    fn waits_for(&self, process: usize) -> Vec<usize> {
        let orders = self.predecessors(process);
        let orders = orders.filter(|other| !self.ever_finished.contains(other));
        let conditions = self.after(process);
        let conditions = conditions.filter(|(other, condition)| !self.holds(*other, *condition));
        orders.chain(conditions.map(|(other, _)| other)).collect()
    }

    /// It waits, maybe through others, for something that can move.
    fn may_come(&self, process: usize) -> bool {
        self.waits_for(process).into_iter().any(|other| {
            let is_over = self.has_failed(other) || self.has_finished(other);
            self.may_run(other) || (!is_over && self.may_come(other))
        })
    }

    fn predecessors(&self, process: usize) -> impl Iterator<Item = usize> + '_ {
        let name = &self.task.processes[process].name;
        let pairs = self.task.constraints.iter();
        pairs
            .filter(move |constraint| constraint.order.last() == Some(name))
            .filter_map(|constraint| {
                let from = &constraint.order[0];
                self.task.processes.iter().position(|p| p.name == *from)
            })
    }

    fn may_run(&self, process: usize) -> bool {
        self.waits_for(process).is_empty()
            && !self.has_failed(process)
            && !self.has_finished(process)
    }

    /// What the regular plan has come to by now.
    fn verdict(&self) -> Option<TaskState> {
        let regular: Vec<usize> = (0..self.task.processes.len())
            .filter(|process| !self.task.processes[*process].is_final)
            .collect();
        let counted: Vec<usize> = regular
            .iter()
            .copied()
            .filter(|process| !self.task.processes[*process].ephemeral)
            .collect();
        let failed = counted.iter().filter(|p| self.has_failed(**p)).count() as u32;
        let over = |p: &usize| self.has_failed(*p) || self.has_finished(*p);
        if self.task.max_failures != 0 && failed >= self.task.max_failures {
            return Some(TaskState::Failed);
        }
        if counted.iter().all(over) {
            return Some(TaskState::Success);
        }
        let stuck = counted
            .iter()
            .all(|p| over(p) || (!self.may_run(*p) && !self.may_come(*p)));
        stuck.then_some(TaskState::Failed)
    }
}

/// Plan, keeper and journal together.
struct World<'t> {
    task: &'t Task,
    plan: Plan,
    journal: Vec<(Fact, u64)>,
    now: u64,
    live: BTreeSet<(usize, u32)>,
    started: BTreeSet<(usize, u32)>,
    began_at: BTreeMap<(usize, u32), u64>,
    ended_at: BTreeMap<usize, u64>,
    /// Runs that were found unhealthy: they have failed whatever ends them.
    unhealthy: BTreeSet<(usize, u32)>,
    /// Runs that somebody wanted anew: killed, whatever ends them.
    restarted: BTreeSet<(usize, u32)>,
    awaiting: bool,
    closed: bool,
    states: Vec<TaskState>,
    naive: Naive<'t>,
    killed: bool,
}

impl<'t> World<'t> {
    fn new(task: &'t Task) -> World<'t> {
        World {
            task,
            plan: Plan::new(task, 0),
            journal: Vec::new(),
            now: 1_000_000,
            live: BTreeSet::new(),
            started: BTreeSet::new(),
            began_at: BTreeMap::new(),
            ended_at: BTreeMap::new(),
            unhealthy: BTreeSet::new(),
            restarted: BTreeSet::new(),
            awaiting: false,
            closed: false,
            states: Vec::new(),
            naive: Naive {
                task,
                ends: Vec::new(),
                restarted: BTreeMap::new(),
                started: BTreeSet::new(),
                healthy: BTreeSet::new(),
                ever_succeeded: BTreeSet::new(),
                ever_finished: BTreeSet::new(),
                ever_gave_up: BTreeSet::new(),
                skipped: BTreeSet::new(),
            },
            killed: false,
        }
    }

    fn fact(&mut self, fact: Fact) {
        self.plan.apply(&fact, self.now);
        self.journal.push((fact, self.now));
        self.naive.update();
    }

    /// Lets the plan decide and carries it out, until there is nothing to decide.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let decision = self.plan.decide(self.now);
            let is_idle = decision.notes.is_empty() && decision.commands.is_empty();
            self.carry_out(decision);
            if self.awaiting && self.live.is_empty() {
                self.awaiting = false;
                self.plan.note_empty();
            } else if is_idle {
                return;
            }
        }
        panic!("the plan does not come to rest");
    }

    fn carry_out(&mut self, decision: Decision) {
        for note in decision.notes {
            let (state, outcome, budget_us) = match note {
                Note::Enter {
                    state,
                    outcome,
                    budget_us,
                    ..
                } => (state, outcome, budget_us),
                Note::TimeOut { process, run } => {
                    let timeout = self.task.processes[process].timeout.expect("a time-out");
                    let began_at = self.began_at[&(process, run)];
                    assert!(self.now >= began_at + timeout.as_micros(), "too early");
                    self.unhealthy.insert((process, run));
                    self.fact(Fact::TimedOut { process, run });
                    continue;
                }
            };
            if state == TaskState::Cleaning && !self.killed {
                assert_eq!(Some(outcome), self.naive.verdict(), "the verdict");
            }
            if state.is_terminal() {
                assert!(self.live.is_empty(), "over while something runs");
            }
            self.states.push(state);
            // decide() has applied it; only the journal has to learn.
            let fact = Fact::Entered {
                state,
                outcome,
                budget_us,
            };
            self.journal.push((fact, self.now));
        }
        for command in decision.commands {
            match command {
                Command::Start { process, run } => self.start(process, run),
                Command::StopAll
                | Command::StopRun { .. }
                | Command::KillRun { .. }
                | Command::TellLingering
                | Command::Post { .. } => {}
                Command::KillAll => self.kill_all(),
                Command::AwaitEmpty => self.awaiting = true,
                Command::Close => self.closed = true,
            }
        }
    }

    fn start(&mut self, process: usize, run: u32) {
        if !self.started.insert((process, run)) {
            // Asked for again by a new runner: done at most once.
            return;
        }
        let rules = &self.task.processes[process];
        let stage = *self.states.last().expect("a state");
        let expected = match rules.is_final {
            true => TaskState::Finalizing,
            false => TaskState::Active,
        };
        assert_eq!(stage, expected, "started in the wrong stage");
        assert!(
            self.naive.may_run(process),
            "started although it must not run"
        );
        let running = self.live.iter().map(|(other, _)| *other);
        let running: Vec<usize> = running
            .filter(|other| self.task.processes[*other].is_final == rules.is_final)
            .collect();
        assert!(!running.contains(&process), "started twice");
        let limit = self.task.max_concurrency as usize;
        assert!(limit == 0 || running.len() < limit, "too many at once");
        if let Some(at) = self.ended_at.get(&process) {
            let pause = rules.min_duration.as_micros();
            assert!(self.now >= at + pause, "started within min_duration");
        }
        self.live.insert((process, run));
        self.began_at.insert((process, run), self.now);
        self.fact(Fact::Started { process, run });
        self.naive.started.insert(process);
        self.fact(Fact::Executed { process, run });
    }

    fn end(&mut self, process: usize, run: u32, exit: Exit) {
        if self.live.remove(&(process, run)) {
            let key = (process, run);
            let is_restarted = self.restarted.contains(&key);
            let state = match self.unhealthy.contains(&key) {
                _ if is_restarted => RunState::Killed,
                true => RunState::Failed,
                false => exit.state(),
            };
            self.naive.ends.push((process, state));
            self.ended_at.insert(process, self.now);
            if is_restarted {
                self.forgive(process);
            }
            self.fact(Fact::Ended { process, run, exit });
        }
    }

    /// Its failures do not count any more, and it may start at once.
    fn forgive(&mut self, process: usize) {
        self.naive.restarted.insert(process, self.naive.ends.len());
        self.ended_at.remove(&process);
    }

    fn restart(&mut self, process: usize) {
        let live = self.live.iter().find(|(other, _)| *other == process);
        match live.copied() {
            Some(key) => {
                self.restarted.insert(key);
            }
            None => self.forgive(process),
        }
        self.fact(Fact::RestartRequested { process });
    }

    fn kill_all(&mut self) {
        for (process, run) in self.live.clone() {
            self.end(process, run, Exit::Signal(9));
        }
    }

    fn replay(&self) -> Plan {
        let mut plan = Plan::new(self.task, 0);
        for (fact, at) in &self.journal {
            plan.apply(fact, *at);
        }
        plan
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::End(which, exit) => {
                let count = self.live.len().max(1);
                if let Some((process, run)) = self.live.iter().copied().nth(which % count) {
                    self.end(process, run, exit);
                }
            }
            Step::Check(which, healthy) => {
                let count = self.live.len().max(1);
                if let Some((process, run)) = self.live.iter().copied().nth(which % count) {
                    match healthy {
                        true => self.naive.healthy.insert(process),
                        false => self.unhealthy.insert((process, run)),
                    };
                    self.fact(Fact::Checked {
                        process,
                        run,
                        healthy,
                    });
                }
            }
            Step::Restart(which) => {
                let process = which % self.task.processes.len();
                let rules = &self.task.processes[process];
                let is_active = self.states.last() == Some(&TaskState::Active);
                let began = self.naive.waits_for(process).is_empty();
                let expected =
                    is_active && !rules.is_final && began && !self.naive.is_skipped(process);
                assert_eq!(self.plan.refuses_restart(process).is_none(), expected);
                match expected {
                    true => self.restart(process),
                    // Asked for too late: it is in the journal, and means nothing.
                    false => self.fact(Fact::RestartRequested { process }),
                }
            }
            Step::Wait(ms) => self.now += ms * 1000,
            Step::Crash => {
                let replayed = self.replay();
                for process in 0..self.task.processes.len() {
                    let of = |plan: &Plan| {
                        let standing = match plan.situation(process) {
                            // A replay forgets what was only asked for.
                            Situation::Starting | Situation::Pausing { .. } => {
                                Situation::Ready { running: 0 }
                            }
                            Situation::Ready { .. } => Situation::Ready { running: 0 },
                            other => other,
                        };
                        (plan.past(process), standing, plan.state(), plan.live())
                    };
                    assert_eq!(of(&self.plan), of(&replayed), "a replay differs");
                }
                self.plan = replayed;
                self.awaiting = false;
            }
            Step::Kill { now } => {
                self.killed = true;
                self.fact(Fact::KillRequested {
                    now,
                    budget_us: None,
                });
            }
            Step::Reboot => {
                // A new clock, and nobody survived.
                self.now = 5_000;
                self.fact(Fact::Rebooted);
                for (process, run) in self.live.clone() {
                    self.end(process, run, Exit::Lost);
                }
                self.ended_at.values_mut().for_each(|at| *at = 0);
                self.plan = self.replay();
                self.awaiting = false;
            }
        }
        self.settle();
    }

    /// Ends everything that runs, with success, until the task is over. A daemon that counts keeps
    /// a task alive for ever; then it has to be killed.
    fn finish(&mut self) {
        for round in 0..2000 {
            if self.closed {
                return;
            }
            if round == 500 {
                self.step(Step::Kill { now: false });
            }
            match self.live.iter().next().copied() {
                Some((process, run)) => {
                    self.end(process, run, Exit::Code(0));
                    self.step(Step::Wait(100));
                }
                None => self.step(Step::Wait(1000)),
            }
        }
        panic!("the task does not end: {:?}", self.states);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_plan_agrees_with_the_naive_model_and_ends(
        task in any_task(),
        steps in prop::collection::vec(any_step(), 0..40),
    ) {
        let mut world = World::new(&task);
        world.settle();
        for step in steps {
            if world.closed {
                break;
            }
            world.step(step);
        }
        world.finish();
        let last = *world.states.last().expect("a state");
        prop_assert!(last.is_terminal());
        prop_assert_eq!(world.states[0], TaskState::Active);
        prop_assert_eq!(world.states[1], TaskState::Cleaning);
    }
}

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
