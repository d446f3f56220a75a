//! Random tasks live random lives, and the plan agrees with the naive model at every step.
//!
//! The simulated keeper starts at most once, ends runs in random order, and reports emptiness; the
//! simulated crash throws the plan away and replays the journal into a new one. Cases: 256 by
//! default, PROPTEST_CASES=100000 for the whole (SPECIFICATION.md).

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{naive::Naive, tasks::any_task};
use crate::{
    engine::plan::{
        facts::{Command, Decision, Fact, Note},
        situation::Situation,
        state::{Exit, RunState, TaskState},
        task::Plan,
    },
    task::Task,
};

/// One thing that happens to a simulated task.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The run at this index among the live ones ends so.
    End(usize, Exit),
    /// The run at this index among the live ones is found healthy or not.
    Check(usize, bool),
    /// A restart of this process is asked for.
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

/// A plan with a simulated keeper and journal.
struct Simulation<'t> {
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
    /// Runs that were to be restarted: killed, whatever ends them.
    restarted: BTreeSet<(usize, u32)>,
    awaiting: bool,
    closed: bool,
    states: Vec<TaskState>,
    naive: Naive<'t>,
    killed: bool,
    killed_now: bool,
    /// When what runs in CLEANING may be killed.
    patience_ends: u64,
    /// Processes of which was said that they never run.
    skipped: BTreeSet<usize>,
}

impl<'t> Simulation<'t> {
    fn new(task: &'t Task) -> Simulation<'t> {
        Simulation {
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
            naive: Naive::new(task),
            killed: false,
            killed_now: false,
            patience_ends: 0,
            skipped: BTreeSet::new(),
        }
    }

    fn fact(&mut self, fact: Fact) {
        self.plan.apply(&fact, self.now);
        self.journal.push((fact, self.now));
        self.naive.update();
    }

    /// Lets the plan decide and does what it wants, until there is nothing to decide.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let decision = self.plan.decide(self.now);
            let is_idle = decision.notes.is_empty() && decision.commands.is_empty();
            self.obey(decision);
            if self.awaiting && self.live.is_empty() {
                self.awaiting = false;
                self.plan.note_empty();
            } else if is_idle {
                let all = self.plan.skipped().into_iter().enumerate();
                let skipped = all.filter_map(|(process, is_one)| is_one.then_some(process));
                self.skipped.extend(skipped);
                return;
            }
        }
        panic!("the plan does not come to rest");
    }

    fn obey(&mut self, decision: Decision) {
        for note in decision.notes {
            match note {
                Note::Enter {
                    state,
                    outcome,
                    budget_us,
                    final_us,
                    reason: _,
                    without_time,
                } => {
                    let fact = Fact::Entered {
                        state,
                        outcome,
                        budget_us,
                        final_us,
                    };
                    self.enter(&fact, &without_time);
                }
                Note::TimeOut { process, run } => {
                    let timeout = self.task.processes[process].timeout.expect("a time-out");
                    let began_at = self.began_at[&(process, run)];
                    assert!(self.now >= began_at + timeout.as_micros(), "too early");
                    self.unhealthy.insert((process, run));
                    self.fact(Fact::TimedOut { process, run });
                }
            }
        }
        for command in decision.commands {
            match command {
                Command::Start { process, run } => self.start(process, run),
                Command::StopAll
                | Command::StopRun { .. }
                | Command::KillRun { .. }
                | Command::TellLingering
                | Command::Post { .. } => {}
                Command::KillAll => {
                    let is_cleaning = self.states.last() == Some(&TaskState::Cleaning);
                    let is_early = is_cleaning && self.now < self.patience_ends;
                    assert!(!is_early || self.killed_now, "killed too early");
                    self.kill_all();
                }
                Command::AwaitEmpty => self.awaiting = true,
                Command::Close => self.closed = true,
            }
        }
    }

    /// The plan has entered a state; only the journal has to learn of it.
    fn enter(&mut self, fact: &Fact, without_time: &[usize]) {
        let Fact::Entered {
            state,
            outcome,
            budget_us,
            final_us,
        } = *fact
        else {
            panic!("{fact:?}");
        };
        if state == TaskState::Cleaning {
            if !self.killed {
                assert_eq!(Some(outcome), self.naive.verdict(), "the verdict");
            }
            assert!(final_us <= budget_us, "more is kept than there is");
            self.patience_ends = self.now + budget_us - final_us;
        }
        if state.is_terminal() {
            assert!(self.live.is_empty(), "over while something runs");
            let all = 0..self.task.processes.len();
            let could_run = |process: &usize| {
                let rules = &self.task.processes[*process];
                let is_wanted = rules.is_final && !rules.ephemeral;
                is_wanted && !self.naive.started.contains(process) && self.naive.can_come(*process)
            };
            let expected: Vec<usize> = all.clone().filter(could_run).collect();
            assert_eq!(without_time, expected, "what had no time");
            let skipped = self.plan.skipped();
            for process in all {
                let has_run = self.naive.started.contains(&process);
                assert_eq!(skipped[process], !has_run, "what is skipped at the end");
            }
        }
        self.states.push(state);
        self.journal.push((fact.clone(), self.now));
    }

    fn start(&mut self, process: usize, run: u32) {
        assert!(!self.skipped.contains(&process), "it was called skipped");
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
        // What waits for it may come after all.
        self.skipped.clear();
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
                        let situation = match plan.situation(process) {
                            // A replay forgets what was only asked for.
                            Situation::Starting | Situation::Pausing { .. } => {
                                Situation::Ready { running: 0 }
                            }
                            Situation::Ready { .. } => Situation::Ready { running: 0 },
                            other => other,
                        };
                        (plan.past(process), situation, plan.state(), plan.live())
                    };
                    assert_eq!(of(&self.plan), of(&replayed), "a replay differs");
                }
                self.plan = replayed;
                self.awaiting = false;
            }
            Step::Kill { now } => {
                self.killed = true;
                self.killed_now |= now;
                self.fact(Fact::KillRequested {
                    now,
                    budget_us: None,
                });
            }
            Step::Reboot => {
                // The clock begins anew, and no process survived.
                self.now = 5_000;
                self.patience_ends = 0;
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
        let mut simulation = Simulation::new(&task);
        simulation.settle();
        for step in steps {
            if simulation.closed {
                break;
            }
            simulation.step(step);
        }
        simulation.finish();
        let last = *simulation.states.last().expect("a state");
        prop_assert!(last.is_terminal());
        prop_assert_eq!(simulation.states[0], TaskState::Active);
        prop_assert_eq!(simulation.states[1], TaskState::Cleaning);
    }
}
