//! A scheduler, the real binary, with a fake master and two agents.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Output, Stdio},
};

use dewar::mesos::{
    fakes::master::{AgentSpec, FakeMaster, Options},
    protocol::messages::{TaskInfo, TaskState},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Bench, code, finish, signal, wait_for};

pub const JOB: &str = "
name: web
role: www
environment: prod
service: true
update_config: {batch_size: 3, watch_secs: 0}
task:
  resources: {cpu: 0.5, ram: 64MiB, disk: 32MiB}
  processes: [{name: a, cmdline: 'sleep 1000'}]
";
pub const KEY: &str = "www/prod/web";

pub fn job(instances: u32) -> String {
    format!("instances: {instances}\n{JOB}")
}

/// A version whose tasks fail (see [`options`]).
pub fn bad(text: &str) -> String {
    text.replace("sleep 1000", "exit 1")
}

pub fn agent(name: &str) -> AgentSpec {
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
pub fn script(info: &TaskInfo) -> Vec<TaskState> {
    let data = String::from_utf8_lossy(info.data());
    let last = match data.contains("exit 1") {
        true => TaskState::TaskFailed,
        false => TaskState::TaskRunning,
    };
    vec![TaskState::TaskStarting, last]
}

pub fn options() -> Options {
    Options {
        agents: vec![agent("one"), agent("two")],
        script: Box::new(script),
        ..Options::default()
    }
}

pub struct Cluster {
    pub bench: Bench,
    pub master: FakeMaster,
    pub scheduler: Option<Child>,
    pub more: Vec<String>,
}

impl Cluster {
    pub fn new(options: Options) -> Cluster {
        Cluster::with(options, &[])
    }

    pub fn with(options: Options, more: &[&str]) -> Cluster {
        let mut cluster = Cluster {
            bench: Bench::new(),
            master: FakeMaster::start(options).expect("a master"),
            scheduler: None,
            more: more.iter().map(|word| (*word).to_owned()).collect(),
        };
        cluster.start();
        cluster
    }

    pub fn spawn(&self) -> Child {
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
    pub fn start(&mut self) {
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

    pub fn kill_scheduler(&mut self) {
        if let Some(mut child) = self.scheduler.take() {
            signal(u64::from(child.id()), Signal::SIGKILL);
            child.wait().expect("its end");
        }
    }

    pub fn dewar(&self, words: &[&str]) -> Output {
        self.bench.run(words)
    }

    /// With a root of its own.
    pub fn dewar_elsewhere(&self, words: &[&str]) -> Output {
        let root = self.bench.path().join("elsewhere").display().to_string();
        let child = self.bench.dewar_at(&root, words).spawn();
        finish(child.expect("dewar"))
    }

    /// `dewar job ...`, which must succeed.
    pub fn job(&self, words: &[&str]) -> String {
        let output = self.dewar(&[&["job"], words].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(code(&output), 0, "{words:?}: {said}{told}");
        told
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        self.bench.file(name, text).display().to_string()
    }

    pub fn create(&self, text: &str) -> String {
        self.job(&["create", &self.file("job.yaml", text)])
    }

    pub fn view(&self, key: &str) -> Option<Value> {
        let output = self.dewar(&["job", "status", key, "--format", "json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Ids of the tasks that there are, with their agents.
    pub fn tasks(&self) -> Vec<(String, String)> {
        let tasks = self.master.look(|master| master.tasks());
        tasks
            .into_iter()
            .map(|(id, agent, _)| (id, agent))
            .collect()
    }

    /// The instances that run are these, each once, and the master saw nothing wrong.
    pub fn has_exactly(&self, key: &str, count: u32) {
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

    pub fn is_settled(&self, key: &str, count: u64) {
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

/// Sends a request and returns the status and the body, if it is JSON.
pub fn ask(socket: &Path, request: &str) -> (u16, Value) {
    let stream = std::os::unix::net::UnixStream::connect(socket).expect("the scheduler");
    answer(stream, request)
}

pub fn answer(mut stream: impl std::io::Read + std::io::Write, request: &str) -> (u16, Value) {
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
