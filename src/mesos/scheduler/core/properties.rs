//! Random histories against a fake master: offers, losses, partitions, failovers, operators, and
//! updates that come twice, late or never. Checks what must hold at every step, and what must have
//! come of it in the end.
//!
//! `DEWAR_HISTORIES` says how many histories are played.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, test_runner::TestRunner};

use super::{
    amounts::thousandths,
    decision::Event,
    request::Request,
    simulation::{Op, RACKS, Simulation, agent},
    state::{Outcome, UpdateStage, limits},
    task_ids::{serial_of, task_id},
};
use crate::{
    mesos::protocol::messages::{TaskState, scheduler::call},
    task::Rule,
};

impl Simulation {
    /// Every task gets all that its job wants, and its executor's share; nothing was cut short.
    pub(super) fn check_accept(&self, accept: &call::Accept) {
        let launches = accept.operations.iter().flat_map(|one| &one.launch);
        for info in launches.flat_map(|launch| &launch.task_infos) {
            let serial = serial_of(&info.task_id.value).expect("a serial");
            let state = self.core.state();
            let version = state
                .version_of(&state.tasks[&serial])
                .expect("its version");
            let executor = info.executor.iter().flat_map(|one| &one.resources);
            let cpus = info
                .resources
                .iter()
                .chain(executor)
                .filter(|one| one.name == "cpus");
            let cpus: f64 = cpus.flat_map(|one| &one.scalar).map(|one| one.value).sum();
            let wanted = version.amounts + self.core.settings().overhead;
            assert_eq!(thousandths(cpus), wanted.cpus, "{}", info.task_id.value);
        }
    }

    /// An update that ended has made of every instance what it should.
    pub(super) fn check_update(&self, key: &str, stage: UpdateStage) {
        let Some(job) = self.core.state().jobs.get(key) else {
            return;
        };
        let Some(update) = job.update.as_ref().filter(|update| update.stage == stage) else {
            return;
        };
        for (number, change) in &update.changes {
            let wanted = job.instances.get(number).and_then(|one| one.wanted);
            match stage {
                UpdateStage::RolledBack => assert_eq!(wanted, change.from),
                UpdateStage::RolledForward => assert_eq!(wanted, change.to),
                _ => {}
            }
        }
    }

    /// No other task of the instance runs, unless its agent was unreachable for a while.
    pub(super) fn check_launch(&self, serial: u64) {
        // A later fact of the same decision may have ended it again.
        let Some(task) = self.core.state().tasks.get(&serial) else {
            return;
        };
        let mark = format!("{}-{}-", task.job.replace('/', "-"), task.instance);
        for (id, agent, state) in self.master.tasks() {
            let is_same = id
                .strip_prefix(&mark)
                .is_some_and(|rest| rest.parse() != Ok(serial));
            assert!(
                !is_same || self.ever_lost.contains(&id),
                "{mark}{serial} is launched while {id} is {state:?} on {agent}"
            );
        }
        let Some(version) = self.core.state().version_of(task) else {
            panic!("a task of a version that is not known");
        };
        for placement in &version.config.constraints {
            if placement.attribute != "rack" {
                continue;
            }
            let number = task.agent.trim_start_matches(char::is_alphabetic);
            let index: usize = number.parse().expect("an agent");
            let rack = RACKS[index % 2].to_owned();
            match &placement.rule {
                Rule::In(values) => assert!(values.contains(&rack)),
                Rule::NotIn(values) => assert!(!values.contains(&rack)),
                Rule::Limit(_) => {}
            }
        }
    }

    pub(super) fn check(&self) {
        assert_eq!(self.master.violations(), &[] as &[String]);
        let state = self.core.state();
        let mut seen = BTreeSet::new();
        for (serial, task) in state.tasks.iter().filter(|(_, task)| !task.superseded) {
            assert!(
                seen.insert((task.job.clone(), task.instance)),
                "two tasks of one instance"
            );
            let instance = &state.jobs[&task.job].instances[&task.instance];
            assert_eq!(instance.task, Some(*serial));
        }
        for job in state.jobs.values() {
            let mut counts: BTreeMap<(u32, usize, &str), u32> = BTreeMap::new();
            for task in job.instances.values().filter_map(|one| one.task) {
                let task = &state.tasks[&task];
                let Some(version) = job.versions.get(&task.version) else {
                    panic!("a task of a version that was forgotten");
                };
                for (index, (_, most)) in limits(&version.config).enumerate() {
                    let key = (task.version, index, task.limited[index].as_str());
                    let count = counts.entry(key).or_default();
                    *count += 1;
                    assert!(*count <= most, "more than {most} at {key:?}");
                }
            }
        }
    }

    /// There is enough of everything from here on, and only now and then a call is lost: what was
    /// asked for must come true.
    fn heal(&mut self) {
        for index in 0..4 {
            let more = agent(format!("more{index}"), index, 64.0);
            self.master.add_agent(more);
        }
        self.subscribe();
        for agent in self.master.agents() {
            let events = self.master.reregister(&agent);
            self.events.extend(events);
        }
        let drained = self.core.state().drained.clone();
        for host in drained {
            self.ask(Request::Undrain { host });
        }
        let jobs: Vec<String> = self
            .core
            .state()
            .jobs
            .keys()
            .map(|key| key.to_string())
            .collect();
        for key in jobs {
            self.ask(Request::Resume(key));
        }
        let mut lossy = 0;
        for round in 0..2000 {
            while !self.undurable.is_empty() {
                self.sync();
            }
            while !self.calls.is_empty() {
                lossy += 1;
                if round < 50 && lossy % 3 == 0 {
                    self.lose_call();
                }
                self.deliver_call();
            }
            self.carry_out_kills();
            for (id, _, state) in self.master.tasks() {
                let next = match state {
                    TaskState::TaskStaging => TaskState::TaskStarting,
                    TaskState::TaskStarting => TaskState::TaskRunning,
                    TaskState::TaskRunning if self.is_batch(&id) => TaskState::TaskFinished,
                    _ => continue,
                };
                let events = self.master.task_update(&id, next, None, "");
                self.events.extend(events);
            }
            let events = self.master.offer(self.now);
            self.events.extend(events);
            if round % 10 == 9 {
                let events = self.master.resend();
                self.events.extend(events);
            }
            while !self.events.is_empty() {
                self.deliver_event(0, false);
            }
            self.now += 700;
            self.decide(Event::Tick);
            if self.is_settled() {
                return;
            }
        }
        panic!(
            "not settled: {:#?}\n{:#?}",
            self.core
                .state()
                .jobs
                .keys()
                .filter_map(|key| self.core.job(key))
                .collect::<Vec<_>>(),
            self.master.tasks()
        );
    }

    fn is_batch(&self, id: &str) -> bool {
        let state = self.core.state();
        let task = serial_of(id).and_then(|serial| state.tasks.get(&serial));
        let version = task.and_then(|task| state.version_of(task));
        version.is_some_and(|version| !version.config.service)
    }

    fn is_settled(&self) -> bool {
        let state = self.core.state();
        let quiet = self
            .undurable
            .iter()
            .all(|(facts, calls)| facts.is_empty() && calls.is_empty())
            && self.calls.is_empty()
            && self.events.is_empty();
        let jobs_are = state.jobs.values().all(|job| {
            let is_updating = job.active_update().is_some();
            let instances = job.instances.values();
            let mut instances = instances.map(|one| match (one.wanted, one.task) {
                (None, _) => false,
                (Some(version), Some(task)) => {
                    let task = &state.tasks[&task];
                    task.state == TaskState::TaskRunning
                        && !task.kill_requested
                        && task.version == version
                }
                (Some(_), None) => one.outcome != Outcome::Open,
            });
            !is_updating && instances.all(|is_done| is_done)
        });
        let ours = state.tasks.len();
        quiet && jobs_are && ours == self.master.tasks().len()
    }
}

fn live(ops: &[Op]) -> Simulation {
    let is_small = ops.first().is_some_and(|(_, a, _)| a % 2 == 0);
    let mut simulation = Simulation::new(if is_small { 3.0 } else { 16.0 });
    simulation.subscribe();
    for op in ops {
        simulation.step(*op);
    }
    simulation.heal();
    let known: BTreeSet<String> = simulation
        .core
        .state()
        .tasks
        .iter()
        .map(|(serial, task)| task_id(*serial, task))
        .collect();
    let there: BTreeSet<String> = simulation
        .master
        .tasks()
        .into_iter()
        .map(|(id, ..)| id)
        .collect();
    assert_eq!(known, there, "what we know of is what there is");
    assert_eq!(simulation.master.outstanding(), 0);
    simulation
}

#[test]
fn random_histories_come_to_what_was_asked_for() {
    let cases = std::env::var("DEWAR_HISTORIES").ok();
    let cases = cases.and_then(|cases| cases.parse().ok()).unwrap_or(500);
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let ops = prop::collection::vec(any::<Op>(), 0..150);
    let number = std::cell::Cell::new(0);
    runner
        .run(&ops, |ops| {
            let simulation = live(&ops);
            number.set(number.get() + 1);
            // The same history gives the same calls: every tenth is lived twice.
            if number.get() % 10 == 0 {
                assert_eq!(simulation.said, live(&ops).said);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
