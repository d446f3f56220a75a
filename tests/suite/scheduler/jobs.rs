//! The scheduler, the real binary, against a fake master: what it does when everything works, and what when
//! calls and news are lost, doubled, late or refused, and it is killed in between.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use dewar::mesos::{
    fakes::master::{AgentSpec, FakeMaster, Fault, Options},
    protocol::messages::{TaskInfo, TaskState, scheduler::call},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    support::tracer::{Fault as TracedFault, Kill, Role, trace, trace_fault},
    support::{Bench, code, finish, signal, wait_for},
};

const JOB: &str = "
name: web
role: www
environment: prod
service: true
update_config: {batch_size: 3, watch_secs: 0}
task:
  resources: {cpu: 0.5, ram: 64MiB, disk: 32MiB}
  processes: [{name: a, cmdline: 'sleep 1000'}]
";
const KEY: &str = "www/prod/web";

fn job(instances: u32) -> String {
    format!("instances: {instances}\n{JOB}")
}

/// A version whose tasks fail (see [`options`]).
fn bad(text: &str) -> String {
    text.replace("sleep 1000", "exit 1")
}

fn agent(name: &str) -> AgentSpec {
    AgentSpec {
        name: name.to_owned(),
        attributes: vec![("rack".to_owned(), name.to_owned())],
        cpus: 16.0,
        mem: 16_384.0,
        disk: 16_384.0,
        ports: (31_000, 31_100),
    }
}

/// Tasks run, unless their command says that they fail.
fn script(info: &TaskInfo) -> Vec<TaskState> {
    let data = String::from_utf8_lossy(info.data());
    let last = match data.contains("exit 1") {
        true => TaskState::TaskFailed,
        false => TaskState::TaskRunning,
    };
    vec![TaskState::TaskStarting, last]
}

fn options() -> Options {
    Options {
        agents: vec![agent("one"), agent("two")],
        script: Box::new(script),
        ..Options::default()
    }
}

struct Cluster {
    bench: Bench,
    master: FakeMaster,
    scheduler: Option<Child>,
    more: Vec<String>,
}

impl Cluster {
    fn new(options: Options) -> Cluster {
        Cluster::with(options, &[])
    }

    fn with(options: Options, more: &[&str]) -> Cluster {
        let mut cluster = Cluster {
            bench: Bench::new(),
            master: FakeMaster::start(options).expect("a master"),
            scheduler: None,
            more: more.iter().map(|word| (*word).to_owned()).collect(),
        };
        cluster.start();
        cluster
    }

    fn spawn(&self) -> Child {
        let address = self.master.address();
        let mut words = vec!["scheduler", "--backoff", "20ms", "--backoff-max", "100ms"];
        if !self.more.iter().any(|word| word == "--master") {
            words.extend(["--master", &address]);
        }
        words.extend(self.more.iter().map(String::as_str));
        let mut command = self.bench.dewar(&words);
        command.stdout(Stdio::null()).spawn().expect("a scheduler")
    }

    /// Starts the scheduler and waits until it listens.
    fn start(&mut self) {
        let mut child = self.spawn();
        let reader = BufReader::new(child.stderr.take().expect("stderr"));
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                println!("scheduler: {line}");
                // The test listens for the first lines only.
                let _ = send.send(line);
            }
        });
        let listens = || lines.recv().is_ok_and(|line| line.starts_with("listening"));
        assert!(listens(), "the scheduler listens");
        self.scheduler = Some(child);
    }

    fn kill_scheduler(&mut self) {
        if let Some(mut child) = self.scheduler.take() {
            signal(u64::from(child.id()), Signal::SIGKILL);
            child.wait().expect("its end");
        }
    }

    fn dewar(&self, words: &[&str]) -> Output {
        self.bench.run(words)
    }

    /// With a root of its own.
    fn dewar_elsewhere(&self, words: &[&str]) -> Output {
        let root = self.bench.path().join("elsewhere").display().to_string();
        let child = self.bench.dewar_at(&root, words).spawn();
        finish(child.expect("dewar"))
    }

    /// `dewar job ...`, which must succeed.
    fn job(&self, words: &[&str]) -> String {
        let output = self.dewar(&[&["job"], words].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(code(&output), 0, "{words:?}: {said}{told}");
        told
    }

    fn file(&self, name: &str, text: &str) -> String {
        self.bench.file(name, text).display().to_string()
    }

    fn create(&self, text: &str) -> String {
        self.job(&["create", &self.file("job.yaml", text)])
    }

    fn view(&self, key: &str) -> Option<Value> {
        let output = self.dewar(&["job", "status", key, "--format", "json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Ids of the tasks that there are, with their agents.
    fn tasks(&self) -> Vec<(String, String)> {
        let tasks = self.master.look(|master| master.tasks());
        tasks
            .into_iter()
            .map(|(id, agent, _)| (id, agent))
            .collect()
    }

    /// The instances that run are these, each once, and the master saw nothing wrong.
    fn has_exactly(&self, key: &str, count: u32) {
        let begins = format!("{}-", key.replace('/', "-"));
        let tasks = wait_for("the tasks", || {
            let tasks = self.tasks();
            (tasks.len() as u32 == count).then_some(tasks)
        });
        let numbers: BTreeSet<u32> = tasks
            .iter()
            .map(|(id, _)| {
                let rest = id.strip_prefix(&begins).expect("one of its tasks");
                let number = rest.split('-').next().expect("an instance");
                number.parse().expect("a number")
            })
            .collect();
        assert_eq!(numbers, (0..count).collect(), "{tasks:?}");
        self.master
            .look(|master| assert_eq!(master.violations(), &[] as &[String]));
    }

    fn is_settled(&self, key: &str, count: u64) {
        wait_for("the job to be settled", || {
            let view = self.view(key)?;
            let totals = &view["totals"];
            (totals["running"] == count && totals["wanted"] == count && totals["killing"] == 0)
                .then_some(())
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_scheduler();
    }
}

#[test]
fn a_job_comes_grows_shrinks_and_goes() {
    let cluster = Cluster::new(options());
    let told = cluster.create(&job(3));
    assert!(told.contains("3/3 running"), "{told}");
    cluster.has_exactly(KEY, 3);
    cluster.job(&["scale", KEY, "20"]);
    cluster.has_exactly(KEY, 20);
    let agents: Vec<String> = cluster
        .tasks()
        .into_iter()
        .map(|(_, agent)| agent)
        .collect();
    assert_eq!(agents.iter().filter(|agent| *agent == "one").count(), 10);
    cluster.job(&["scale", KEY, "5"]);
    cluster.has_exactly(KEY, 5);
    cluster.job(&["kill", KEY, "--instances", "3-4"]);
    cluster.has_exactly(KEY, 3);
    cluster.job(&["restart", KEY]);
    cluster.has_exactly(KEY, 3);
    let told = cluster.job(&["kill", KEY]);
    assert!(told.contains("it is gone"), "{told}");
    assert_eq!(cluster.tasks(), []);
    assert_eq!(cluster.job(&["status"]), "no jobs\n");
}

#[test]
fn nothing_is_wanted_when_nothing_waits() {
    let cluster = Cluster::new(options());
    cluster.create(&job(2));
    let last = |calls: &[call::Type], wanted| calls.iter().rposition(|one| *one == wanted);
    let calls = wait_for("the offers to be suppressed", || {
        let calls = cluster.master.calls();
        let suppressed = last(&calls, call::Type::Suppress);
        (suppressed > last(&calls, call::Type::Revive)).then_some(calls)
    });
    assert!(calls.contains(&call::Type::Revive), "{calls:?}");
    cluster.job(&["scale", KEY, "3"]);
    let count = |calls: &[call::Type], wanted| calls.iter().filter(|one| **one == wanted).count();
    let later = cluster.master.calls();
    assert!(count(&later, call::Type::Revive) > count(&calls, call::Type::Revive));
}

#[test]
fn news_that_come_twice_and_out_of_order() {
    let cluster = Cluster::new(options());
    cluster.master.inflict(Fault::Duplicate);
    cluster.master.inflict(Fault::Reorder);
    cluster.create(&job(10));
    cluster.job(&["restart", KEY]);
    cluster.has_exactly(KEY, 10);
    cluster.is_settled(KEY, 10);
}

#[test]
fn lost_acknowledgements_are_asked_for_again() {
    let cluster = Cluster::new(Options {
        heartbeat: Duration::from_millis(100),
        ..options()
    });
    cluster.master.inflict(Fault::LoseAcknowledgements(15));
    // RUNNING is not sent before STARTING is acknowledged.
    cluster.create(&job(10));
    cluster.has_exactly(KEY, 10);
    wait_for("all acknowledgements, and those that were lost", || {
        let calls = cluster.master.calls();
        let acks = calls
            .iter()
            .filter(|call| **call == call::Type::Acknowledge);
        (acks.count() >= 35).then_some(())
    });
}

#[test]
fn a_kill_that_is_lost_on_the_way_is_repeated() {
    let cluster = Cluster::new(options());
    cluster.create(&job(3));
    cluster.master.inflict(Fault::LoseKills(2));
    cluster.job(&["scale", KEY, "1"]);
    cluster.has_exactly(KEY, 1);
}

#[test]
fn streams_that_break() {
    let cluster = Cluster::new(options());
    cluster.job(&["create", &cluster.file("job.yaml", &job(20)), "--detach"]);
    for _ in 0..5 {
        cluster.master.inflict(Fault::Drop);
        let before = cluster.master.subscriptions();
        wait_for("another subscription", || {
            (cluster.master.subscriptions() > before).then_some(())
        });
    }
    cluster
        .master
        .inflict(Fault::Down(Duration::from_millis(200)));
    cluster.is_settled(KEY, 20);
    cluster.has_exactly(KEY, 20);
}

#[test]
fn a_stream_id_that_is_wrong_means_another_subscription() {
    let cluster = Cluster::new(options());
    cluster.create(&job(1));
    let before = cluster.master.subscriptions();
    cluster.master.inflict(Fault::WrongStreamId(1));
    cluster.job(&["scale", KEY, "4"]);
    assert!(cluster.master.subscriptions() > before);
    cluster.has_exactly(KEY, 4);
}

#[test]
fn a_master_that_says_nothing_is_gone() {
    let cluster = Cluster::new(Options {
        heartbeat: Duration::from_millis(100),
        ..options()
    });
    cluster.create(&job(1));
    cluster.master.inflict(Fault::Silence);
    let before = cluster.master.subscriptions();
    wait_for("another subscription", || {
        (cluster.master.subscriptions() > before).then_some(())
    });
    cluster.job(&["scale", KEY, "3"]);
    cluster.has_exactly(KEY, 3);
}

#[test]
fn offers_that_are_rescinded_while_they_are_accepted() {
    let cluster = Cluster::new(options());
    cluster.master.inflict(Fault::RescindAccepted(3));
    cluster.create(&job(6));
    cluster.has_exactly(KEY, 6);
}

#[test]
fn the_leading_master_is_found() {
    let leader = FakeMaster::start(options()).expect("a master");
    let follower = FakeMaster::start(Options {
        leader: Some(leader.address()),
        ..Options::default()
    });
    let follower = follower.expect("a master");
    // The first one of the list is not even there.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let dead_address = dead.local_addr().expect("an address").to_string();
    drop(dead);
    let masters = format!("{dead_address},{}", follower.address());
    let cluster = Cluster::with(Options::default(), &["--master", &masters]);
    cluster.create(&job(2));
    assert_eq!(leader.look(|master| master.tasks().len()), 2);
    drop(cluster);
    leader.look(|master| assert_eq!(master.violations(), &[] as &[String]));
}

#[test]
fn a_scheduler_that_is_killed_goes_on_as_the_same() {
    let mut cluster = Cluster::new(options());
    let framework = |cluster: &Cluster| {
        let socket = cluster.bench.root().join("scheduler/socket");
        ask(&socket, "GET /status HTTP/1.1\r\nHost: x\r\n\r\n").1["framework_id"].clone()
    };
    cluster.create(&job(4));
    let first = framework(&cluster);
    for count in [8_u32, 12, 16, 20] {
        cluster.job(&["scale", KEY, &count.to_string(), "--detach"]);
        cluster.kill_scheduler();
        cluster.start();
        cluster.is_settled(KEY, u64::from(count));
        cluster.has_exactly(KEY, count);
    }
    assert_eq!(framework(&cluster), first);
    // In the middle of an update too.
    let file = cluster.file("next.yaml", &job(20).replace("sleep 1000", "sleep 1001"));
    cluster.job(&["update", &file, "--detach"]);
    for _ in 0..4 {
        cluster.kill_scheduler();
        cluster.start();
    }
    wait_for("the update", || {
        let view = cluster.view(KEY)?;
        (view["update"]["state"] == "ROLLED_FORWARD").then_some(())
    });
    cluster.has_exactly(KEY, 20);
    let infos = cluster.master.look(|master| {
        let tasks = master.tasks().into_iter();
        let infos = tasks.filter_map(|(id, ..)| master.info(&id).cloned());
        infos.collect::<Vec<_>>()
    });
    let is_new = |info: &TaskInfo| String::from_utf8_lossy(info.data()).contains("sleep 1001");
    assert!(infos.iter().all(is_new));
}

#[test]
fn a_second_scheduler_waits_and_takes_over() {
    let mut cluster = Cluster::new(options());
    cluster.create(&job(3));
    let mut second = cluster.spawn();
    let mut lines = BufReader::new(second.stderr.take().expect("stderr")).lines();
    let line = lines.next().expect("a line").expect("text");
    assert!(line.contains("waiting to take its place"), "{line}");
    let before = cluster.tasks();
    cluster.kill_scheduler();
    let line = lines.next().expect("a line").expect("text");
    assert!(line.starts_with("listening"), "{line}");
    cluster.scheduler = Some(second);
    cluster.is_settled(KEY, 3);
    assert_eq!(cluster.tasks(), before);
    cluster.job(&["scale", KEY, "4"]);
    cluster.has_exactly(KEY, 4);
}

#[test]
fn an_agent_that_was_away_comes_back_to_find_itself_replaced() {
    let cluster = Cluster::new(options());
    cluster.create(&job(6));
    cluster.master.change(|master| master.lose("one"));
    // Within its first seconds a scheduler waits for news before it gives anything up.
    wait_for("the replacements", || {
        let on_two = cluster
            .tasks()
            .iter()
            .filter(|(_, agent)| agent == "two")
            .count();
        (on_two == 6).then_some(())
    });
    assert_eq!(cluster.tasks().len(), 9, "the lost ones are still there");
    cluster.master.change(|master| master.find("one"));
    cluster.has_exactly(KEY, 6);
    cluster.is_settled(KEY, 6);
}

#[test]
fn a_master_that_forgot_everything_is_told_nothing_new() {
    let cluster = Cluster::new(options());
    cluster.create(&job(6));
    let before = cluster.tasks();
    cluster.master.change(|master| {
        master.fail_over();
        Vec::new()
    });
    cluster.master.inflict(Fault::Drop);
    wait_for("the questions", || {
        let view = cluster.view(KEY)?;
        (view["totals"]["unreachable"] == 6).then_some(())
    });
    for name in ["one", "two"] {
        cluster.master.change(|master| master.find(name));
    }
    cluster.is_settled(KEY, 6);
    assert_eq!(cluster.tasks(), before);
}

#[test]
fn an_update_that_fails_is_undone_in_reverse() {
    let cluster = Cluster::new(options());
    let good = job(6);
    cluster.create(&good);
    let before: BTreeSet<String> = cluster.tasks().into_iter().map(|(id, _)| id).collect();
    let file = cluster.file("bad.yaml", &bad(&good));
    let output = cluster.dewar(&["job", "update", &file]);
    assert_eq!(code(&output), 1);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("update rolled back"), "{told}");
    cluster.has_exactly(KEY, 6);
    cluster.is_settled(KEY, 6);
    // The first batch was replaced and put back; the others were never touched.
    let after: BTreeSet<String> = cluster.tasks().into_iter().map(|(id, _)| id).collect();
    assert_eq!(before.intersection(&after).count(), 3);
    let view = cluster.view(KEY).expect("the job");
    assert!(
        view["instances"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|one| one["version"] == 0)
    );
}

#[test]
fn only_what_differs_is_replaced() {
    let cluster = Cluster::new(options());
    let first = job(4);
    cluster.create(&first);
    let before = cluster.tasks();
    // The same in other words, and with what is the default anyway.
    let same = first
        .replace(
            "{name: a, cmdline: 'sleep 1000'}",
            "{cmdline: 'sleep 1000', name: a, max_failures: '1'}",
        )
        .replace("batch_size: 3", "batch_size: 2");
    let told = cluster.job(&["update", &cluster.file("same.yaml", &same)]);
    assert!(
        told.contains("www/prod/web: nothing that runs changes"),
        "{told}"
    );
    assert_eq!(cluster.tasks(), before);
    // Only instance 0 sees a difference.
    let by_number = first.replace("sleep 1000", "sleep 100{{mesos.instance}}");
    let told = cluster.job(&["update", &cluster.file("number.yaml", &by_number)]);
    assert!(told.contains("3 to change, 1 unchanged"), "{told}");
    // A canary, and one instance more.
    let more = job(5).replace("sleep 1000", "sleep 2000");
    let told = cluster.job(&[
        "update",
        &cluster.file("more.yaml", &more),
        "--instances",
        "1",
    ]);
    assert!(told.contains("1 to change"), "{told}");
    let told = cluster.job(&["update", &cluster.file("more.yaml", &more)]);
    assert!(
        told.contains("3 to change, 1 to add, 1 unchanged"),
        "{told}"
    );
    cluster.has_exactly(KEY, 5);
}

#[test]
fn an_update_waits_goes_on_and_ends_where_it_is() {
    let cluster = Cluster::new(options());
    cluster.create(&job(6));
    let slow = job(6)
        .replace("sleep 1000", "sleep 1001")
        .replace("watch_secs: 0", "watch_secs: 300");
    cluster.job(&["update", &cluster.file("slow.yaml", &slow), "--detach"]);
    let update = |what: &str| {
        let view = cluster.view(KEY).expect("the job");
        view["update"][what].clone()
    };
    assert_eq!(update("state"), "ROLLING_FORWARD");
    cluster.job(&["pause", KEY]);
    assert_eq!(update("state"), "ROLL_FORWARD_PAUSED");
    let output = cluster.dewar(&["job", "scale", KEY, "9"]);
    assert_eq!(code(&output), 2);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("an update of www/prod/web is under way"),
        "{said}"
    );
    cluster.job(&["resume", KEY]);
    assert_eq!(update("state"), "ROLLING_FORWARD");
    cluster.job(&["abort", KEY]);
    assert_eq!(update("state"), "ABORTED");
    cluster.is_settled(KEY, 6);
    cluster.has_exactly(KEY, 6);
    let view = cluster.view(KEY).expect("the job");
    let new = view["instances"].as_array().expect("a list");
    assert_eq!(new.iter().filter(|one| one["version"] == 1).count(), 3);
}

#[test]
fn a_batch_job_fails_twice_and_then_succeeds() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let cluster = Cluster::new(Options {
        script: Box::new(|_| {
            let last = match RUNS.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => TaskState::TaskFailed,
                _ => TaskState::TaskFinished,
            };
            vec![TaskState::TaskStarting, TaskState::TaskRunning, last]
        }),
        ..options()
    });
    let batch = job(1).replace("service: true", "max_task_failures: 3");
    let told = cluster.create(&batch);
    assert!(told.trim_end().ends_with("1/1 finished"), "{told}");
    let view = cluster.view(KEY).expect("the job");
    assert_eq!(view["instances"][0]["failures"], 2);
    assert_eq!(RUNS.load(Ordering::Relaxed), 3);

    let cluster = Cluster::new(options());
    let file = cluster.file("bad.yaml", &bad(&batch));
    let output = cluster.dewar(&["job", "create", &file]);
    assert_eq!(code(&output), 1, "it failed for good");
    let view = cluster.view(KEY).expect("the job");
    assert_eq!(view["instances"][0]["state"], "FAILED");
    assert_eq!(view["instances"][0]["failures"], 3);
}

#[test]
fn a_host_is_emptied_and_used_again() {
    let cluster = Cluster::new(options());
    cluster.create(&job(6));
    cluster.job(&["drain", "one"]);
    wait_for("the host to be empty", || {
        let tasks = cluster.tasks();
        (tasks.len() == 6 && tasks.iter().all(|(_, agent)| agent == "two")).then_some(())
    });
    cluster.job(&["drain", "one", "--over"]);
    cluster.job(&["scale", KEY, "8"]);
    assert!(cluster.tasks().iter().any(|(_, agent)| agent == "one"));
    let told = cluster.job(&["drain", "on"]);
    assert!(told.contains("did you mean one?"), "{told}");
}

#[test]
fn what_can_never_fit_says_why() {
    let cluster = Cluster::new(options());
    let huge = job(1).replace("cpu: 0.5", "cpu: 64");
    cluster.job(&["create", &cluster.file("huge.yaml", &huge), "--detach"]);
    let why = wait_for("the reason", || {
        let view = cluster.view(KEY)?;
        let why = view["instances"][0]["why"].as_str()?.to_owned();
        why.contains("never").then_some(why)
    });
    assert_eq!(
        why,
        "it can never fit: cpus: it needs 64.05 (0.05 of it for its executor), the most that any agent has offered is 16 (one)"
    );
    cluster.job(&["kill", KEY]);
    let nowhere = format!("{}constraints: {{rack: three}}\n", job(1));
    cluster.job(&[
        "create",
        &cluster.file("nowhere.yaml", &nowhere),
        "--detach",
    ]);
    wait_for("the reason", || {
        let view = cluster.view(KEY)?;
        let why = view["instances"][0]["why"].as_str()?.to_owned();
        why.contains("2 agents with another `rack`").then_some(())
    });
}

#[test]
fn quotas_are_kept_with_the_sums() {
    let cluster = Cluster::new(options());
    cluster.job(&["quota", "www", "--cpu", "2"]);
    cluster.create(&job(3));
    let output = cluster.dewar(&["job", "scale", KEY, "5"]);
    assert_eq!(code(&output), 2);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    insta::assert_snapshot!(said, @"
    error: the quota of www is exceeded: cpus: 2.5 of www/prod/web and 0 of other jobs are 2.5, the quota is 2
    hint: dewar job quota shows and changes it
    ");
    let told = cluster.job(&["quota"]);
    assert_eq!(
        told,
        "www  has cpus 1.5, mem 192 MiB, disk 96 MiB  may have cpus 2\n"
    );
    cluster.job(&["quota", "www", "--remove"]);
    cluster.job(&["scale", KEY, "5"]);
    cluster.has_exactly(KEY, 5);
}

#[test]
fn mistakes_are_refused_with_their_place() {
    let cluster = Cluster::new(options());
    let text = "
instances: 0
servce: true
constraints: {host: 'limit:0'}
cron_schedule: '* * * * *'
task:
  resources: {cpu: 1}
  processes: [{name: a, cmdline: 'true'}]
";
    let file = cluster.bench.file("bad.yaml", text);
    let output = cluster.dewar(&["job", "create", &file.display().to_string()]);
    assert_eq!(code(&output), 2);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = said.replace(&cluster.bench.path().display().to_string(), "DIR");
    insta::assert_snapshot!("mistakes_of_a_job", said);
    // A mistake in the task, which is in a file of its own.
    cluster.bench.file(
        "task.yaml",
        "processes: [{name: a/b, cmdline: x}]\nresources: {cpu: 1}\n",
    );
    let file = cluster.bench.file("job.yaml", "task: task.yaml\n");
    let output = cluster.dewar(&["job", "create", &file.display().to_string()]);
    assert_eq!(code(&output), 2);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("task.yaml:1:20"), "{said}");
    // An unknown job, with one near it.
    cluster.create(&job(1));
    let output = cluster.dewar(&["job", "status", "www/prod/wbe"]);
    assert_eq!(code(&output), 1);
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr), @"
    error: there is no job www/prod/wbe
    hint: did you mean www/prod/web?
    ");
    let output = cluster.dewar(&["job", "create", &cluster.file("again.yaml", &job(1))]);
    assert_eq!(code(&output), 2);
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr), @"
    error: there is a job www/prod/web already
    hint: to change it: dewar job update
    ");
}

#[test]
fn the_master_may_want_to_know_who_we_are() {
    let basic = "Basic d3d3OnNlY3JldA==".to_owned();
    let guarded = || Options {
        authorization: Some(basic.clone()),
        ..options()
    };
    let bench = Bench::new();
    let good = bench.file("good", "www secret\n").display().to_string();
    let wrong = bench.file("wrong", "www nonsense\n").display().to_string();
    let cluster = Cluster::with(guarded(), &["--credential", &good]);
    cluster.create(&job(1));
    let mut cluster = Cluster::with(guarded(), &["--credential", &wrong]);
    let output = finish(cluster.scheduler.take().expect("a scheduler"));
    assert_eq!(code(&output), 1);
}

/// Sends a request and returns the status and the body, if it is JSON.
fn ask(socket: &Path, request: &str) -> (u16, Value) {
    let stream = std::os::unix::net::UnixStream::connect(socket).expect("the scheduler");
    answer(stream, request)
}

fn answer(mut stream: impl std::io::Read + std::io::Write, request: &str) -> (u16, Value) {
    let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    stream.write_all(request.as_bytes()).expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (
        status.expect("a status"),
        serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())),
    )
}

#[test]
fn the_port_is_for_those_who_know_the_token() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let cluster = Cluster::with(options(), &["--listen", &address]);
    cluster.create(&job(2));
    let token = wait_for("the token", || {
        fs::read_to_string(cluster.bench.root().join("scheduler/token")).ok()
    });
    let token = token.trim();
    let ask = |head: &str| {
        let stream = std::net::TcpStream::connect(&address).expect("the scheduler");
        answer(stream, &format!("{head}\r\n\r\n"))
    };
    let host = format!("Host: {address}");
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(ask(&format!("GET /jobs HTTP/1.1\r\n{host}")).0, 401);
    assert_eq!(
        ask(&format!("GET /jobs HTTP/1.1\r\nHost: evil\r\n{bearer}")).0,
        421
    );
    let foreign = format!("GET /jobs HTTP/1.1\r\n{host}\r\n{bearer}\r\nOrigin: http://evil");
    assert_eq!(ask(&foreign).0, 403);
    let (status, jobs) = ask(&format!("GET /jobs HTTP/1.1\r\n{host}\r\n{bearer}"));
    assert_eq!(
        (status, &jobs["jobs"][0]["totals"]["running"]),
        (200, &Value::from(2))
    );
    let (status, body) = ask(&format!(
        "GET /jobs/www/prod/webb HTTP/1.1\r\n{host}\r\n{bearer}"
    ));
    assert_eq!(status, 404);
    assert_eq!(body["hint"], "did you mean www/prod/web?");
    assert_eq!(
        ask(&format!("GET /../etc HTTP/1.1\r\n{host}\r\n{bearer}")).0,
        404
    );
    assert_eq!(
        ask(&format!("PUT /jobs/a/b/c HTTP/1.1\r\n{host}\r\n{bearer}")).0,
        405
    );
    let (_, metrics) = ask(&format!("GET /metrics HTTP/1.1\r\n{host}\r\n{bearer}"));
    let metrics = metrics.as_str().expect("text").to_owned();
    for line in [
        "dewar_scheduler_instances{state=\"running\"} 2",
        "dewar_scheduler_launches_total 2",
        "dewar_scheduler_latency_seconds_count{until=\"running\"} 2",
        "dewar_scheduler_connected 1",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    // `dewar job` finds the token beside the scheduler.
    let told = cluster.job(&["--scheduler", &address, "status"]);
    assert!(told.contains("2/2 running"), "{told}");
}

#[test]
fn a_submission_over_the_wire_is_refused_with_places() {
    let cluster = Cluster::new(options());
    let socket = cluster.bench.root().join("scheduler/socket");
    let body =
        serde_json::json!({"job": "instances: many\ntask: {processes: []}\n", "role": "www"});
    let body = body.to_string();
    let request = format!(
        "POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (status, told) = ask(&socket, &request);
    assert_eq!(status, 400);
    assert_eq!(told["mistakes"][0]["line"], 1);
    assert_eq!(told["mistakes"][0]["column"], 12);
}

#[test]
fn a_client_sees_every_step_and_programs_too() {
    let cluster = Cluster::new(options());
    let file = cluster.file("job.yaml", &job(3));
    let told = cluster.job(&["create", &file, "--format", "json"]);
    let last: Value = serde_json::from_str(told.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["totals"]["running"], 3);
    let mut watch = cluster
        .bench
        .dewar(&["job", "watch", KEY])
        .spawn()
        .expect("a watcher");
    let mut lines = BufReader::new(watch.stdout.take().expect("stdout")).lines();
    let mut next = || lines.next().map(|line| line.expect("text"));
    assert_eq!(next().as_deref(), Some("3/3 running"));
    cluster.job(&["kill", KEY, "--detach"]);
    let mut last = None;
    while let Some(line) = next() {
        last = Some(line);
    }
    assert_eq!(last.as_deref(), Some("it is gone"));
    assert_eq!(code(&finish(watch)), 0);
}

#[test]
fn a_client_does_not_take_silence_for_success() {
    let mut cluster = Cluster::new(options());
    cluster.create(&job(2));
    // The kills get lost, so the job is there until somebody repeats them.
    cluster.master.inflict(Fault::LoseKills(u32::MAX));
    let kill = cluster
        .bench
        .dewar(&["job", "kill", KEY])
        .spawn()
        .expect("a client");
    wait_for("the kill to begin", || {
        let view = cluster.view(KEY)?;
        (view["totals"]["killing"] == 2).then_some(())
    });
    cluster.kill_scheduler();
    assert_eq!(code(&finish(kill)), 1);
    let output = cluster.dewar(&["job", "status"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no scheduler at"), "{said}");
    cluster.master.inflict(Fault::LoseKills(0));
    cluster.start();
    cluster.has_exactly(KEY, 0);
}

#[test]
fn what_makes_no_sense_is_refused_before_it_does_harm() {
    let cluster = Cluster::new(options());
    let refused = |words: &[&str]| {
        let output = cluster.dewar(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(&output), 2, "{words:?}: {said}");
        said
    };
    // A few hundred kilobytes that would become gigabytes.
    let bomb = format!(
        "task:\n  resources: {{cpu: 1, ram: 1MiB, disk: 1MiB}}\n  x: &x {}\n  y: [{}]\n",
        "x".repeat(100_000),
        "*x, ".repeat(10_000)
    );
    let said = refused(&["job", "create", &cluster.file("bomb.yaml", &bomb)]);
    assert!(said.contains("too many values"), "{said}");
    let large = job(1).replace("sleep 1000", &format!("sleep 1; #{}", "x".repeat(2 << 20)));
    let said = refused(&["job", "create", &cluster.file("large.yaml", &large)]);
    assert!(said.contains("every instance is sent all of it"), "{said}");
    refused(&["job", "quota", "www", "--cpu", "nan"]);
    refused(&["job", "quota", "www", "--cpu", "-1e300"]);
    refused(&["job", "quota", "w\x1b[31mw", "--cpu", "1"]);
    refused(&["job", "status", "www/prod"]);
    refused(&["job", "status", "www//web"]);
    refused(&["job", "drain", "a/b"]);
    refused(&["job", "kill", "www/prod/web", "--instances", ""]);
    let around = format!(
        "{}health_check_config: {{health_checker: {{htpp: {{}}}}, intervall_secs: 3}}\nlifecycle: {{http: {{port: helath}}}}\n",
        job(1)
    );
    let said = refused(&["job", "create", &cluster.file("around.yaml", &around)]);
    for what in ["`htpp`", "`intervall_secs`"] {
        assert!(said.contains(what), "{what} in {said}");
    }
    let portless = format!("{}lifecycle: {{http: {{}}}}\n", job(1));
    let said = refused(&["job", "create", &cluster.file("portless.yaml", &portless)]);
    assert!(
        said.contains("there is no port `health` for this"),
        "{said}"
    );
    refused(&[
        "job",
        "kill",
        "www/prod/web",
        "--instances",
        "0-99999,0-99999",
    ]);
    let precious = cluster.file("precious", "keep");
    let output = cluster.dewar_elsewhere(&[
        "scheduler",
        "--master",
        "127.0.0.1:1",
        "--listen",
        &precious,
    ]);
    assert_eq!(code(&output), 1);
    assert_eq!(fs::read_to_string(&precious).expect("a file"), "keep");
}

/// The scheduler of this root, wherever it was started.
fn scheduler_pid(bench: &Bench) -> Option<u64> {
    let root = bench.root().display().to_string();
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
    pids.find(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        words.contains(&root) && words.contains("\0scheduler\0")
    })
}

/// Kills the scheduler before its N-th system call, while a job of three is created; another one makes it
/// come true. Returns how many system calls there were, when that is fewer.
fn killed_before(call: u64) -> Option<u64> {
    let mut cluster = Cluster {
        bench: Bench::new(),
        master: FakeMaster::start(options()).expect("a master"),
        scheduler: None,
        more: Vec::new(),
    };
    let address = cluster.master.address();
    let mut command = cluster.bench.dewar(&["scheduler", "--master", &address]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let kill = Kill {
        role: Role::Client,
        before: call,
        root_too: false,
    };
    let traced = std::thread::spawn(move || trace(command, Some(kill)));
    let file = cluster.file("job.yaml", &job(3));
    // It may be dead before it listens, or before it answers.
    wait_for("the scheduler to do what it can", || {
        if traced.is_finished() {
            return Some(());
        }
        let output = cluster.dewar(&["job", "create", &file, "--detach"]);
        let is_there = cluster.tasks().len() == 3;
        (code(&output) != 1 && is_there).then_some(())
    });
    if !traced.is_finished()
        && let Some(pid) = scheduler_pid(&cluster.bench)
    {
        let pid = nix::unistd::Pid::from_raw(pid as i32);
        // It may be killed in this very moment.
        let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
    }
    let traced = traced.join().expect("the tracer");
    cluster.start();
    let again = cluster.dewar(&["job", "create", &file, "--detach"]);
    assert!(
        [0, 2].contains(&code(&again)),
        "it is there, or was never begun"
    );
    cluster.is_settled(KEY, 3);
    cluster.has_exactly(KEY, 3);
    (!traced.killed).then(|| traced.calls[&Role::Client])
}

#[test]
fn killing_the_scheduler_before_a_system_call_changes_nothing() {
    let all = killed_before(u64::MAX).expect("all its calls");
    let is_whole = std::env::var("DEWAR_CRASH").is_ok_and(|value| value == "all");
    let step = if is_whole { 1 } else { (all / 12).max(1) };
    println!("{all} system calls, every {step}th");
    for call in (1..=all).step_by(step as usize) {
        killed_before(call);
    }
}

#[test]
fn a_journal_that_cannot_be_written_ends_the_scheduler_and_nothing_else() {
    let mut cluster = Cluster::new(options());
    cluster.create(&job(3));
    cluster.kill_scheduler();
    let address = cluster.master.address();
    let mut command = cluster.bench.dewar(&["scheduler", "--master", &address]);
    let log = cluster.bench.path().join("err");
    command
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).expect("a file"));
    let fault = TracedFault {
        role: Role::Client,
        calls: &[nix::libc::SYS_fdatasync],
        // The first one is the replay's own.
        from: 2,
        persists: true,
        errno: nix::libc::EIO,
    };
    let traced = std::thread::spawn(move || trace_fault(command, fault));
    let file = cluster.file("more.yaml", &job(4).replace("name: web", "name: more"));
    let output = wait_for("the answer", || {
        let output = cluster.dewar(&["job", "create", &file, "--detach"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // Until it listens there is nobody.
        (!said.contains("no scheduler at") || traced.is_finished()).then_some(output)
    });
    assert_eq!(
        code(&output),
        1,
        "what is not on disk is not said to be done"
    );
    let traced = traced.join().expect("the tracer");
    assert_eq!(traced.code, Some(1));
    let said = fs::read_to_string(log).expect("the log");
    assert!(said.contains("the journal cannot be written"), "{said}");
    cluster.start();
    // What was written and not synced may be there or not: whoever asked knows that it is not known.
    cluster.dewar(&["job", "kill", "www/prod/more"]);
    cluster.is_settled(KEY, 3);
    cluster.has_exactly(KEY, 3);
}

#[test]
fn an_update_that_can_never_fit_touches_nothing() {
    let cluster = Cluster::new(options());
    cluster.create(&job(4));
    let before = cluster.tasks();
    let huge = job(4).replace("cpu: 0.5", "cpu: 50");
    let output = cluster.dewar(&["job", "update", &cluster.file("huge.yaml", &huge)]);
    assert_eq!(code(&output), 2);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("it can never fit: cpus: it needs 50.05"),
        "{said}"
    );
    assert_eq!(cluster.tasks(), before);
}

#[test]
fn a_failed_update_is_forgotten_when_nothing_is_to_change() {
    let cluster = Cluster::new(options());
    cluster.create(&job(2));
    let failed = cluster.dewar(&["job", "update", &cluster.file("bad.yaml", &bad(&job(2)))]);
    assert_eq!(code(&failed), 1);
    let told = cluster.job(&["update", &cluster.file("same.yaml", &job(2))]);
    assert_eq!(told, "www/prod/web: nothing that runs changes\n");
}

#[test]
fn what_is_followed_is_followed_over_the_schedulers_death() {
    let mut cluster = Cluster::new(options());
    cluster.create(&job(6));
    let slow = job(6)
        .replace("sleep 1000", "sleep 1001")
        .replace("watch_secs: 0", "watch_secs: 0.3");
    let update = cluster
        .bench
        .dewar(&["job", "update", &cluster.file("slow.yaml", &slow)])
        .spawn()
        .expect("a client");
    wait_for("the update to begin", || {
        let view = cluster.view(KEY)?;
        (view["update"]["is_active"] == true).then_some(())
    });
    cluster.kill_scheduler();
    cluster.start();
    let output = finish(update);
    assert_eq!(
        code(&output),
        0,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("update rolled forward 6/6"), "{told}");
}

#[test]
fn two_schedulers_of_one_cluster_give_different_ids() {
    let id = || {
        let cluster = Cluster::new(options());
        cluster.create(&job(1));
        cluster.tasks()[0].0.clone()
    };
    assert_ne!(id(), id());
}
