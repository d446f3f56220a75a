//! Where an executor plays: the fake agent, or a real Mesos. Both are asked the same questions.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use dewar::mesos::{
    fakes::agent::{Container, FakeAgent, Fault, Options},
    protocol::{
        messages::{
            AgentId, CheckInfo, CommandInfo, DurationInfo, HealthCheck, KillPolicy, Resource,
            TaskId, TaskInfo, TaskStatus, value,
        },
        ports,
    },
};
use serde_json::Value;

use crate::support::{Bench, wait_for};

/// A task as a scheduler describes it.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    pub id: &'static str,
    pub data: Option<String>,
    pub command: Option<String>,
    pub grace: Option<Duration>,
    pub ports: Vec<u16>,
    pub health: Option<HealthCheck>,
    pub check: Option<CheckInfo>,
}

/// A task of this YAML.
pub fn task(id: &'static str, data: &str) -> Spec {
    Spec {
        id,
        data: Some(data.to_owned()),
        ..Spec::default()
    }
}

/// How the stage is set.
#[derive(Clone, Debug)]
pub struct Setting {
    pub json: bool,
    pub token: bool,
    pub domain_socket: bool,
    pub grace: Duration,
    pub recovery: Duration,
    pub checkpoint: bool,
    /// The executor is of this file, not of the present build.
    pub program: Option<PathBuf>,
    /// The agent puts containers into cgroups (v1, as root).
    pub cgroups: bool,
}

impl Default for Setting {
    fn default() -> Setting {
        Setting {
            json: false,
            token: false,
            domain_socket: false,
            grace: Duration::from_secs(5),
            recovery: Duration::from_secs(60),
            checkpoint: true,
            program: None,
            cgroups: false,
        }
    }
}

/// An agent with one executor.
pub trait Stage {
    fn bench(&self) -> &Bench;
    fn launch(&mut self, tasks: &[Spec], as_group: bool);
    fn kill(&self, task: &str, grace: Option<Duration>);
    fn shutdown(&self);
    /// Kills the agent.
    fn agent_down(&mut self);
    fn agent_up(&mut self);
    /// What the scheduler saw, in order, repeats of one uuid left out.
    fn updates(&self) -> Vec<TaskStatus>;
    /// The container's sandbox.
    fn sandbox(&self) -> PathBuf;
    /// True when the executor's first process is dead.
    fn is_executor_gone(&self) -> bool;
}

/// The states of one task, in order.
pub fn states(stage: &dyn Stage, task: &str) -> Vec<String> {
    let updates = stage.updates();
    let own = updates.iter().filter(|status| status.task_id.value == task);
    own.map(|status| {
        status
            .state()
            .as_str_name()
            .trim_start_matches("TASK_")
            .to_owned()
    })
    .collect()
}

pub fn last(stage: &dyn Stage, task: &str) -> TaskStatus {
    let mut updates = stage.updates();
    updates.retain(|status| status.task_id.value == task);
    updates.pop().expect("an update")
}

pub fn wait_state(stage: &dyn Stage, task: &str, state: &str) {
    let name = format!("{task} to be {state}");
    wait_for(&name, || {
        states(stage, task)
            .contains(&state.to_owned())
            .then_some(())
    });
}

/// The task as `dewar status` shows it.
pub fn status(stage: &dyn Stage, task: &str) -> Value {
    wait_for("the task's status", || stage.bench().task(task))
}

pub fn file(stage: &dyn Stage, task: &str, name: &str) -> PathBuf {
    stage
        .sandbox()
        .join("tasks")
        .join(task)
        .join("sandbox")
        .join(name)
}

pub fn info(spec: &Spec) -> TaskInfo {
    let scalar = |name: &str, value: f64| Resource {
        name: name.to_owned(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value }),
        ..Resource::default()
    };
    TaskInfo {
        name: spec.id.to_owned(),
        task_id: TaskId {
            value: spec.id.to_owned(),
        },
        agent_id: AgentId {
            value: "fake-agent".to_owned(),
        },
        data: spec.data.clone().map(String::into_bytes),
        health_check: spec.health.clone(),
        check: spec.check.clone(),
        command: spec.command.clone().map(|value| CommandInfo {
            value: Some(value),
            ..CommandInfo::default()
        }),
        kill_policy: spec.grace.map(|grace| KillPolicy {
            grace_period: Some(DurationInfo {
                nanoseconds: grace.as_nanos() as i64,
            }),
        }),
        resources: vec![
            scalar("cpus", 0.1),
            scalar("mem", 32.0),
            ports(spec.ports.iter().copied()),
        ],
        ..TaskInfo::default()
    }
}

/// The fake agent.
pub struct Fake {
    bench: Bench,
    pub agent: FakeAgent,
    container: Option<Container>,
    setting: Setting,
    /// Where its tasks are shown.
    root: PathBuf,
}

impl Fake {
    /// Its tasks are shown where those of `other` are.
    pub fn sharing(other: &Fake, setting: Setting) -> Fake {
        let mut fake = Fake::new(setting);
        fake.root.clone_from(&other.root);
        fake
    }

    pub fn new(setting: Setting) -> Fake {
        let bench = Bench::new();
        let agent = FakeAgent::start(Options {
            token: setting.token.then(|| "a.b.c".to_owned()),
            socket: setting
                .domain_socket
                .then(|| bench.path().join("agent.sock")),
            checkpoint: setting.checkpoint,
            recovery_timeout: setting.recovery,
            grace_period: setting.grace,
            ..Options::default()
        });
        Fake {
            root: bench.root(),
            bench,
            agent: agent.expect("an agent"),
            container: None,
            setting,
        }
    }

    /// Starts the executor without a task.
    pub fn start_executor(&mut self) {
        if self.container.is_some() {
            return;
        }
        let program = self.setting.program.as_ref().map_or_else(
            || env!("CARGO_BIN_EXE_dewar").to_owned(),
            |program| program.display().to_string(),
        );
        let mut command = vec![
            program,
            "--root".to_owned(),
            self.root.display().to_string(),
            "executor".to_owned(),
        ];
        if self.setting.json {
            command.extend(["--wire".to_owned(), "json".to_owned()]);
        }
        let mut environment: BTreeMap<String, String> = self.agent.environment(&self.sandbox());
        if let Ok(level) = std::env::var("DEWAR_LOG") {
            environment.insert("DEWAR_LOG".to_owned(), level);
        }
        let launched = Container::launch(&command, &self.sandbox(), &environment);
        self.container = Some(launched.expect("an executor"));
    }

    /// What the executor said for people.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.sandbox().join("stderr")).unwrap_or_default()
    }
}

impl Stage for Fake {
    fn bench(&self) -> &Bench {
        &self.bench
    }

    fn launch(&mut self, tasks: &[Spec], as_group: bool) {
        self.agent
            .launch(tasks.iter().map(info).collect(), as_group);
        self.start_executor();
    }

    fn kill(&self, task: &str, grace: Option<Duration>) {
        self.agent.kill(task, grace);
    }

    fn shutdown(&self) {
        self.agent.shutdown();
    }

    fn agent_down(&mut self) {
        self.agent.inflict(Fault::Down(Duration::ZERO));
    }

    fn agent_up(&mut self) {
        self.agent.come_back();
    }

    fn updates(&self) -> Vec<TaskStatus> {
        self.agent.updates()
    }

    fn sandbox(&self) -> PathBuf {
        self.bench.path().join("sandbox")
    }

    fn is_executor_gone(&self) -> bool {
        let container = self.container.as_ref().expect("an executor");
        container.wait_dead(Duration::ZERO).expect("a look")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "updates: {:#?}\nexecutor: {}",
                brief(&self.updates()),
                self.log()
            );
        }
        // The container first: its tasks must not see their directories vanish.
        self.container.take();
    }
}

fn brief(updates: &[TaskStatus]) -> Vec<String> {
    let line = |status: &TaskStatus| {
        format!(
            "{} {} {}",
            status.task_id.value,
            status.state().as_str_name(),
            status.message()
        )
    };
    updates.iter().map(line).collect()
}
