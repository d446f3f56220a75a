//! Random histories against a fake master: offers, losses, partitions, failovers, operators, and
//! updates that come twice, late or never. Checks what must hold at every step, and what must have
//! come of it in the end.
//!
//! `DEWAR_HISTORIES` says how many histories are played.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write,
};

use proptest::{prelude::*, test_runner::TestRunner};

use super::{
    amounts::thousandths,
    core::SchedulerCore,
    decision::{Call, Decision, Event},
    request::Request,
    settings::Settings,
    state::{Fact, Kind, Outcome, State, UpdateStage, limits},
    task_ids::{serial_of, task_id},
    tests::job,
};
use crate::{
    mesos::{
        fakes::master::{AgentSpec, Master},
        protocol::messages::{
            FrameworkId, FrameworkInfo, TaskState,
            scheduler::{Call as Message, Event as News, call, event},
        },
        scheduler::translate::{ExecutorCommand, Incoming, Translator},
    },
    task::Rule,
};

type Op = (u8, u8, u8);
/// With their times.
type Facts = Vec<(u64, Fact)>;

/// Racks of the agents; more than one agent shares one.
const RACKS: [&str; 2] = ["a", "b"];
const AGENTS: usize = 4;

struct Simulation {
    core: SchedulerCore,
    translator: Translator,
    master: Master,
    now: u64,
    /// What was made durable.
    disk: Facts,
    /// Decisions that are not on disk yet, with their calls.
    undurable: VecDeque<(Facts, Vec<Message>)>,
    /// On their way to the master.
    calls: VecDeque<Message>,
    /// On their way from it.
    events: VecDeque<News>,
    /// Tasks that were unreachable at some time.
    ever_lost: BTreeSet<String>,
    /// Everything that was said, to compare.
    said: String,
    /// Jobs that the operators made, by number.
    made: u32,
    failovers: u32,
}

fn settings() -> Settings {
    Settings {
        other_agents_ms: 500,
        unknown_ms: 5_000,
        ask_ms: 1_000,
        kill_ms: 1_000,
        ..Settings::default()
    }
}

/// Small ones have room for a few instances only.
fn agents(cpus: f64) -> Vec<AgentSpec> {
    (0..AGENTS)
        .map(|index| agent(format!("agent{index}"), index, cpus))
        .collect()
}

fn agent(name: String, index: usize, cpus: f64) -> AgentSpec {
    AgentSpec {
        name,
        attributes: vec![("rack".to_owned(), RACKS[index % 2].to_owned())],
        cpus,
        mem: 16_384.0,
        disk: 16_384.0,
        ports: (31_000, 31_063),
    }
}

impl Simulation {
    fn new(cpus: f64) -> Simulation {
        Simulation {
            core: SchedulerCore::new(settings(), State::default(), 0),
            translator: Translator::new(ExecutorCommand::default()),
            master: Master::new(&agents(cpus)),
            now: 1_000_000,
            disk: Vec::new(),
            undurable: VecDeque::new(),
            calls: VecDeque::new(),
            events: VecDeque::new(),
            ever_lost: BTreeSet::new(),
            said: String::new(),
            made: 0,
            failovers: 0,
        }
    }

    fn subscribe(&mut self) {
        // A new connection: what was under way on the old one never arrives.
        self.calls.clear();
        self.events.clear();
        self.decide(Event::Disconnected);
        let id = self.core.state().framework.clone();
        let id = id.map(|value| FrameworkId { value });
        let call = Message {
            framework_id: id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                framework_info: FrameworkInfo {
                    id,
                    ..FrameworkInfo::default()
                },
                suppressed_roles: Vec::new(),
            }),
            ..Message::default()
        };
        let events = self.master.call(&call, self.now).expect("a subscription");
        for event in events {
            self.hear(event);
        }
    }

    fn hear(&mut self, news: News) {
        match self.translator.event(news) {
            Incoming::Event(event) | Incoming::Subscribed(event) => self.decide(event),
            Incoming::Error(why) => panic!("{why}"),
            Incoming::Nothing => {}
        }
    }

    fn decide(&mut self, event: Event) {
        let offered: Vec<String> = match &event {
            Event::Offers(offers) => offers.iter().map(|offer| offer.id.clone()).collect(),
            _ => Vec::new(),
        };
        let decision = self.core.handle(event, self.now);
        let mut answered: Vec<String> = Vec::new();
        for call in &decision.calls {
            if let Call::Accept { offers, .. } | Call::Decline { offers, .. } = call {
                answered.extend(offers.iter().cloned());
            }
        }
        answered.sort();
        let mut offered = offered;
        offered.sort();
        assert_eq!(
            answered, offered,
            "every offer is answered at once, and once"
        );
        self.take(decision);
    }

    fn ask(&mut self, request: Request) {
        let (_, decision) = self.core.request(request, self.now);
        self.take(decision);
    }

    fn take(&mut self, decision: Decision) {
        write!(self.said, "{:?}", decision.calls).expect("a string");
        for fact in &decision.facts {
            match &fact.kind {
                Some(Kind::Launched(launched)) => self.check_launch(launched.serial),
                Some(Kind::UpdateState(state)) => self.check_update(&state.job, state.stage()),
                _ => {}
            }
        }
        let calls = decision.calls.into_iter();
        let calls: Vec<Message> = calls
            .map(|call| self.translator.call(call, &self.core))
            .collect();
        for accept in calls.iter().filter_map(|call| call.accept.as_ref()) {
            self.check_accept(accept);
        }
        let facts = decision.facts.into_iter().map(|fact| (self.now, fact));
        self.undurable.push_back((facts.collect(), calls));
        self.check();
    }

    /// Every task gets all that its job wants, and its executor's share; nothing was cut short.
    fn check_accept(&self, accept: &call::Accept) {
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
    fn check_update(&self, key: &str, stage: UpdateStage) {
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
    fn check_launch(&self, serial: u64) {
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

    fn check(&self) {
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

    fn sync(&mut self) {
        if let Some((facts, calls)) = self.undurable.pop_front() {
            self.disk.extend(facts);
            self.calls.extend(calls);
        }
    }

    fn deliver_call(&mut self) {
        let Some(call) = self.calls.pop_front() else {
            return;
        };
        let events = self.master.call(&call, self.now).expect("a good call");
        self.events.extend(events);
        self.check();
    }

    /// Those that can be lost without the stream: an offer that is never answered comes never
    /// again.
    fn lose_call(&mut self) {
        let can_be = |call: &Message| {
            use call::Type::{Acknowledge, Kill, Reconcile, Revive, Suppress};
            matches!(
                call.r#type(),
                Acknowledge | Kill | Reconcile | Revive | Suppress
            )
        };
        if self.calls.front().is_some_and(can_be) {
            self.calls.pop_front();
        }
    }

    fn deliver_event(&mut self, at: usize, twice: bool) {
        if self.events.is_empty() {
            return;
        }
        // Only news of different tasks overtake each other.
        let at = at % self.events.len();
        let is_update = |news: &News| news.r#type() == event::Type::Update;
        let index = match is_update(&self.events[at]) {
            true => {
                let id = |news: &News| news.update.as_ref().map(|one| one.status.task_id.clone());
                let wanted = id(&self.events[at]);
                let first = self
                    .events
                    .iter()
                    .position(|news| is_update(news) && id(news) == wanted);
                first.unwrap_or(0)
            }
            false => 0,
        };
        if let Some(news) = self.events.remove(index) {
            if twice && is_update(&news) {
                self.hear(news.clone());
            }
            self.hear(news);
        }
    }

    /// The scheduler dies with everything that is not on disk, and comes back.
    fn fail_over(&mut self, snapshot: bool) {
        self.failovers += 1;
        self.undurable.clear();
        let flapping = settings().flapping;
        let replayed = |facts: &[(u64, Fact)]| {
            let mut state = State::default();
            for (at, fact) in facts {
                state.apply(fact, *at, &flapping);
            }
            state
        };
        let mut state = replayed(&self.disk);
        if snapshot {
            let facts = state.snapshot(self.now);
            let again = replayed(&facts);
            assert_eq!(
                facts,
                again.snapshot(self.now),
                "a snapshot makes the same state"
            );
            self.disk = facts;
            state = again;
        }
        self.core = SchedulerCore::new(settings(), state, self.now);
        self.translator = Translator::new(ExecutorCommand::default());
        self.subscribe();
    }

    /// Something happens to the n-th task.
    fn progress(&mut self, n: usize, what: u8) {
        let tasks = self.master.tasks();
        if tasks.is_empty() {
            return;
        }
        let (id, _, state) = tasks[n % tasks.len()].clone();
        let next = match (state, what % 8) {
            (TaskState::TaskStaging, _) => TaskState::TaskStarting,
            (TaskState::TaskStarting, 0..=5) => TaskState::TaskRunning,
            (_, 0) => TaskState::TaskFinished,
            (_, 1 | 7) => TaskState::TaskFailed,
            (_, 2) => TaskState::TaskKilled,
            _ => return,
        };
        let events = self.master.task_update(&id, next, None, "by chance");
        self.events.extend(events);
    }

    fn carry_out_kills(&mut self) {
        while let Some(id) = self.master.next_kill() {
            let events = self
                .master
                .task_update(&id, TaskState::TaskKilled, None, "killed");
            self.events.extend(events);
        }
    }

    fn lose(&mut self, name: &str) {
        self.remember_lost();
        let events = self.master.lose(name);
        self.events.extend(events);
    }

    fn remember_lost(&mut self) {
        let tasks = self.master.tasks();
        self.ever_lost.extend(tasks.into_iter().map(|(id, ..)| id));
    }

    fn operate(&mut self, what: u8, which: u8) {
        const MORE: [&str; 6] = [
            "instances: 3",
            "instances: 5\nconstraints: {rack: 'a'}",
            "instances: 4\nconstraints: {host: 'limit:2'}",
            "instances: 4\nconstraints: {rack: 'limit:3'}\nports: [http]",
            "instances: 2\nservice: false\nmax_task_failures: 3",
            "instances: 4\npriority: 5\nconstraints: {rack: '!b'}\npartition_policy: {delay_secs: 3}",
        ];
        const UPDATES: [&str; 3] = [
            "{batch_size: 2, watch_secs: 1}",
            "{batch_size: 3, watch_secs: 0, max_per_shard_failures: 1}",
            "{watch_secs: 2, wait_for_batch_completion: true, batch_size: 2, max_total_failures: 1}",
        ];
        let named = |number: u32, more: &str, update: &str| {
            let more = match more.contains("service: false") {
                true => more.replace("service: false\n", ""),
                false => more.to_owned(),
            };
            let mut job = job(&format!("{more}\nupdate_config: {update}"));
            job.name = format!("job{number}");
            job.service = !more.contains("max_task_failures");
            job
        };
        let which = usize::from(which);
        let number = which as u32 % self.made.max(1);
        let key = format!("www/devel/job{number}");
        let some: BTreeSet<u32> = [0, which as u32 % 3].into();
        match what % 11 {
            0 | 1 => {
                if self.made < 3 {
                    let job = named(self.made, MORE[which % 6], UPDATES[which % 3]);
                    self.made += 1;
                    self.ask(Request::Create(Box::new(job)));
                }
            }
            2 | 3 => {
                let mut job = named(number, MORE[(which / 3) % 6], UPDATES[which % 3]);
                job.cpu = 0.5 + (which % 4) as f64 * 0.5;
                // Its task says the same, or a restart would see no difference.
                job.task = job
                    .task
                    .replace("\"cpu\":1", &format!("\"cpu\":{}", job.cpu));
                let only = match which % 5 {
                    0 => some,
                    _ => BTreeSet::new(),
                };
                self.ask(Request::Update {
                    job: Box::new(job),
                    only,
                    force: false,
                });
            }
            4 => self.ask(Request::Restart(key, BTreeSet::new())),
            5 => self.ask(Request::Kill(key, some)),
            6 => self.ask(Request::Scale(key, 1 + which as u32 % 6)),
            7 => self.ask(Request::Pause(key)),
            8 => self.ask(Request::Resume(key)),
            9 => self.ask(Request::Abort(key)),
            _ => {
                let host = format!("agent{}", which % AGENTS);
                self.ask(match which.is_multiple_of(2) {
                    true => Request::Undrain { host },
                    false => Request::Drain { host },
                });
            }
        }
    }

    fn step(&mut self, (what, a, b): Op) {
        self.now += u64::from(a) * u64::from(b) / 16;
        let agent = format!("agent{}", usize::from(a) % AGENTS);
        match what % 24 {
            0..4 => self.operate(a, b),
            4 | 5 => {
                let events = self.master.offer(self.now);
                self.events.extend(events);
            }
            6..9 => (0..4).for_each(|_| self.sync()),
            9 | 10 => (0..1 + a % 4).for_each(|_| match b {
                0..8 => self.lose_call(),
                _ => self.deliver_call(),
            }),
            11 | 12 => (0..1 + a % 4).for_each(|_| self.deliver_event(usize::from(b), a > 200)),
            13..16 => self.progress(usize::from(a), b),
            16 => self.carry_out_kills(),
            17 => self.lose(&agent),
            18 => {
                let events = self.master.reregister(&agent);
                self.events.extend(events);
            }
            19 => match a % 4 {
                0 => {
                    self.remember_lost();
                    let events = self.master.destroy(&agent);
                    self.events.extend(events);
                }
                1 => {
                    self.remember_lost();
                    self.master.fail_over();
                    self.subscribe();
                }
                _ => {
                    let events = self.master.rescind(Some(&agent));
                    self.events.extend(events);
                }
            },
            20 => match a % 3 {
                0 => self.fail_over(b % 2 == 0),
                _ => self.subscribe(),
            },
            21 => {
                let events = self.master.resend();
                self.events.extend(events);
            }
            _ => {
                self.now += u64::from(b) * 20;
                self.decide(Event::Tick);
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
    let mut world = Simulation::new(if is_small { 3.0 } else { 16.0 });
    world.subscribe();
    for op in ops {
        world.step(*op);
    }
    world.heal();
    let known: BTreeSet<String> = world
        .core
        .state()
        .tasks
        .iter()
        .map(|(serial, task)| task_id(*serial, task))
        .collect();
    let there: BTreeSet<String> = world
        .master
        .tasks()
        .into_iter()
        .map(|(id, ..)| id)
        .collect();
    assert_eq!(known, there, "what we know of is what there is");
    assert_eq!(world.master.outstanding(), 0);
    world
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
            let world = live(&ops);
            number.set(number.get() + 1);
            // The same history gives the same calls: every tenth is lived twice.
            if number.get() % 10 == 0 {
                assert_eq!(world.said, live(&ops).said);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
