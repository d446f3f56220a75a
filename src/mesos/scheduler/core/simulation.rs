//! A simulated cluster for the tests of the core: the core, a journal that may lag, and a fake
//! master, with everything that may happen to them.
//!
//! `properties` says what must hold; this file only makes things happen.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Write,
};

use super::{
    core::SchedulerCore,
    decision::{Call, Decision, Event},
    request::Request,
    settings::Settings,
    state::{Fact, Kind, State},
    tests::job,
};
use crate::mesos::{
    fakes::master::{AgentSpec, Master},
    protocol::messages::{
        FrameworkId, FrameworkInfo, TaskState,
        scheduler::{Call as Message, Event as MasterEvent, call, event},
    },
    scheduler::translate::{ExecutorCommand, Incoming, Translator},
};

/// What happens next: its kind, and two numbers that choose among the possibilities.
pub(super) type Op = (u8, u8, u8);
/// Facts with their times.
pub(super) type Facts = Vec<(u64, Fact)>;

/// Racks of the agents; more than one agent shares one.
pub(super) const RACKS: [&str; 2] = ["a", "b"];
pub(super) const AGENTS: usize = 4;

pub(super) struct Simulation {
    pub(super) core: SchedulerCore,
    pub(super) translator: Translator,
    pub(super) master: Master,
    pub(super) now: u64,
    /// What was made durable.
    pub(super) disk: Facts,
    /// Decisions that are not on disk yet, with their calls.
    pub(super) undurable: VecDeque<(Facts, Vec<Message>)>,
    /// On their way to the master.
    pub(super) calls: VecDeque<Message>,
    /// On their way from it.
    pub(super) events: VecDeque<MasterEvent>,
    /// Tasks that were unreachable at some time.
    pub(super) ever_lost: BTreeSet<String>,
    /// Everything that was said, to compare.
    pub(super) said: String,
    /// Jobs that the operators made, by number.
    pub(super) made: u32,
    pub(super) failovers: u32,
}

pub(super) fn settings() -> Settings {
    Settings {
        other_agents_ms: 500,
        unknown_ms: 5_000,
        ask_ms: 1_000,
        kill_ms: 1_000,
        ..Settings::default()
    }
}

/// Small ones have room for a few instances only.
pub(super) fn agents(cpus: f64) -> Vec<AgentSpec> {
    (0..AGENTS)
        .map(|index| agent(format!("agent{index}"), index, cpus))
        .collect()
}

pub(super) fn agent(name: String, index: usize, cpus: f64) -> AgentSpec {
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
    pub(super) fn new(cpus: f64) -> Simulation {
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

    pub(super) fn subscribe(&mut self) {
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

    pub(super) fn hear(&mut self, news: MasterEvent) {
        match self.translator.event(news) {
            Incoming::Event(event) | Incoming::Subscribed(event) => self.decide(event),
            Incoming::Error(why) => panic!("{why}"),
            Incoming::Nothing => {}
        }
    }

    pub(super) fn decide(&mut self, event: Event) {
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

    pub(super) fn ask(&mut self, request: Request) {
        let (_, decision) = self.core.request(request, self.now);
        self.take(decision);
    }

    pub(super) fn take(&mut self, decision: Decision) {
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

    pub(super) fn sync(&mut self) {
        if let Some((facts, calls)) = self.undurable.pop_front() {
            self.disk.extend(facts);
            self.calls.extend(calls);
        }
    }

    pub(super) fn deliver_call(&mut self) {
        let Some(call) = self.calls.pop_front() else {
            return;
        };
        let events = self.master.call(&call, self.now).expect("a good call");
        self.events.extend(events);
        self.check();
    }

    /// Those that can be lost without the stream: an offer that is never answered comes never
    /// again.
    pub(super) fn lose_call(&mut self) {
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

    pub(super) fn deliver_event(&mut self, at: usize, twice: bool) {
        if self.events.is_empty() {
            return;
        }
        // Only news of different tasks overtake each other.
        let at = at % self.events.len();
        let is_update = |news: &MasterEvent| news.r#type() == event::Type::Update;
        let index = match is_update(&self.events[at]) {
            true => {
                let id =
                    |news: &MasterEvent| news.update.as_ref().map(|one| one.status.task_id.clone());
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
    pub(super) fn fail_over(&mut self, snapshot: bool) {
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
    pub(super) fn progress(&mut self, n: usize, what: u8) {
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

    pub(super) fn carry_out_kills(&mut self) {
        while let Some(id) = self.master.next_kill() {
            let events = self
                .master
                .task_update(&id, TaskState::TaskKilled, None, "killed");
            self.events.extend(events);
        }
    }

    pub(super) fn lose(&mut self, name: &str) {
        self.remember_lost();
        let events = self.master.lose(name);
        self.events.extend(events);
    }

    pub(super) fn remember_lost(&mut self) {
        let tasks = self.master.tasks();
        self.ever_lost.extend(tasks.into_iter().map(|(id, ..)| id));
    }

    pub(super) fn operate(&mut self, what: u8, which: u8) {
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

    pub(super) fn step(&mut self, (what, a, b): Op) {
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
}
