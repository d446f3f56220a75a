//! The scheduler's core in simulation: 1 000, 10 000 and 100 000 tasks, ten on an agent; and the
//! binary's restart with that many.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::Stdio,
    sync::mpsc,
    time::Instant,
};

use dewar::{
    config::JobSource,
    journal,
    mesos::{
        protocol::messages::TaskState,
        scheduler::{
            Written,
            core::{
                Call, Event, Fact, Offer, Ports, Request, SchedulerCore, Settings, State,
                StatusUpdate, task_id,
            },
            directory, lock,
        },
    },
    sys::clock,
    task::Job,
};

use super::{Bench, pss, row};

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
const PER_AGENT: usize = 10;
/// Of one job, on one agent.
const MOST: usize = 20;
/// Instances of one job.
const PER_JOB: usize = 1_000;

fn job(name: &str, instances: usize) -> Job {
    let text = format!(
        "name: {name}\ninstances: {instances}\nservice: true\nports: [http]\nconstraints: {{host: 'limit:{MOST}', rack: '!none'}}
task: {{resources: {{cpu: 1, ram: 1GiB, disk: 1GiB}}, processes: [{{name: main, cmdline: 'exec ./server --port {{{{thermos.ports[http]}}}}'}}]}}\n"
    );
    let source = JobSource {
        job: &text,
        role: "www",
        ..JobSource::default()
    };
    Job::read(&source).expect("a job").0
}

fn offers(agents: usize, round: usize, cpus: u64) -> Vec<Offer> {
    (0..agents)
        .map(|index| {
            let mut ports = Ports::default();
            ports.add(31_000, 31_999);
            Offer {
                id: format!("offer-{round}-{index}"),
                agent: format!("agent-{index}").into(),
                hostname: format!("host-{index}").into(),
                attributes: BTreeMap::from([("rack".to_owned(), vec![format!("r{}", index % 40)])]),
                amounts: dewar::mesos::scheduler::core::Amounts {
                    cpus: cpus * 1000,
                    mem: cpus * 4_096_000,
                    disk: cpus * 4_096_000,
                    gpus: 0,
                },
                ports,
            }
        })
        .collect()
}

struct Simulation {
    core: SchedulerCore,
    now: u64,
    facts: Vec<Fact>,
}

impl Simulation {
    fn handle(&mut self, event: Event) -> Vec<Call> {
        let decision = self.core.handle(event, self.now);
        self.facts.extend(decision.facts);
        decision.calls
    }

    fn timed(&mut self, event: Event) -> f64 {
        let began = Instant::now();
        let calls = self.handle(event);
        let took = began.elapsed().as_secs_f64() * 1000.0;
        drop(calls);
        took
    }

    fn news(&mut self, serial: u64, state: TaskState) {
        let task = &self.core.state().tasks[&serial];
        let heard = StatusUpdate {
            task: task_id(serial, task),
            state,
            agent: Some(task.agent.to_string()),
            uuid: Some(serial.to_be_bytes().to_vec()),
            healthy: None,
            message: String::new(),
            reason: String::new(),
        };
        self.handle(Event::Update(heard));
    }
}

impl Bench {
    pub fn scheduler(&self) {
        println!(
            "{:>8} {:>7}  {:>12} {:>12} {:>12} {:>12} {:>8} {:>10}",
            "tasks",
            "agents",
            "place all ms",
            "idle ms",
            "1% lost ms",
            "update us",
            "PSS MB",
            "restart ms"
        );
        for tasks in SIZES {
            self.simulate(tasks);
        }
    }

    fn simulate(&self, tasks: usize) {
        let agents = tasks / PER_AGENT;
        let mut world = Simulation {
            core: SchedulerCore::new(Settings::default(), State::default(), 0),
            now: 1_000_000,
            facts: Vec::new(),
        };
        world.handle(Event::Subscribed("framework".to_owned()));
        for number in 0..tasks / PER_JOB {
            let job = job(&format!("job{number}"), PER_JOB);
            let request = Request::Create(Box::new(job));
            let (answer, decision) = world.core.request(request, world.now);
            answer.expect("a job");
            world.facts.extend(decision.facts);
        }
        let place = world.timed(Event::Offers(offers(agents, 0, 16)));
        assert_eq!(world.core.pending(), 0, "everything has a place");
        let serials: Vec<u64> = world.core.state().tasks.keys().copied().collect();
        let began = Instant::now();
        for state in [TaskState::TaskStarting, TaskState::TaskRunning] {
            for serial in &serials {
                world.news(*serial, state);
            }
        }
        let update = began.elapsed().as_secs_f64() * 1e6 / (2 * tasks) as f64;
        let written = std::mem::take(&mut world.facts);
        world.now += 10_000;
        let idle = world.timed(Event::Offers(offers(agents, 1, 5)));
        for serial in serials.iter().step_by(100) {
            world.news(*serial, TaskState::TaskLost);
        }
        world.now += 1_000;
        let lost = world.timed(Event::Offers(offers(agents, 2, 5)));
        assert_eq!(world.core.pending(), 0, "everything has a place again");
        let (restart, replay, memory) = self.restart(tasks, written);
        println!(
            "{tasks:>8} {agents:>7}  {place:>12.1} {idle:>12.1} {lost:>12.1} {update:>12.2} {memory:>8.1} {restart:>10.0}"
        );
        if tasks == 100_000 {
            let what = "restart with 100 000 tasks, exec to an answer";
            row(
                what,
                restart,
                "ms",
                Some(("reading the journal alone", replay)),
                "<= 2000 ms",
            );
        }
    }

    /// The binary with this journal: milliseconds from its exec until it listens, everything
    /// replayed; of reading the journal alone; and its memory then, MB.
    fn restart(&self, tasks: usize, facts: Vec<Fact>) -> (f64, f64, f64) {
        let root = self.path().join(format!("scheduler-{tasks}"));
        let (send, durable) = mpsc::channel();
        let tell = move |written| drop(send.send(written));
        let flapping = Settings::default().flapping;
        let path = directory(&root);
        let locked = lock(&path, || panic!("the lock is free")).expect("a lock");
        let (mut store, _) = locked
            .open(clock::now(), &flapping, tell)
            .expect("a journal");
        let last = store.push(facts, clock::now());
        loop {
            match durable.recv().expect("the writer") {
                Written::Durable(count) if count >= last => break,
                Written::Durable(_) => {}
                Written::Failed(why) => panic!("{why}"),
            }
        }
        drop(store);
        let began = Instant::now();
        let replay = journal::read(&path.join("journal")).expect("a journal");
        let floor = began.elapsed().as_secs_f64() * 1000.0;
        drop(replay);
        let mut command = self.dewar();
        command
            .arg("--root")
            .arg(&root)
            .args(["scheduler", "--master", "127.0.0.1:1"])
            .stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().expect("a scheduler");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let line = lines.next().expect("a line").expect("text");
        let took = began.elapsed().as_secs_f64() * 1000.0;
        assert!(line.starts_with("listening"), "{line}");
        let memory = pss(u64::from(child.id())) / 1024.0;
        child.kill().expect("kill");
        child.wait().expect("its end");
        (took, floor, memory)
    }
}
