//! Two versions meet in an executor, whose keeper stays and whose runner is replaced. They need
//! root.

use nix::sys::signal::Signal;

use crate::{
    mesos::stage::{Fake, Setting, Stage, last, status, task, wait_state},
    support::{Bench, signal, wait_for},
    versions::meeting::{Older, Present, Program, Version, is_grouped, is_private, is_there},
};

const PLAIN: &str = "processes: [{name: p, cmdline: 'sleep 1000'}]";
const LIMITED: &str =
    "processes: [{name: p, resources: {ram: 64MiB, cpu: 0.5}, cmdline: 'sleep 1000'}]";
const PRIVATE: &str = "
isolation: private
processes: [{name: p, cmdline: 'sleep 1000'}]";
const BEST_EFFORT: &str = "
processes:
  - {name: p, resources: {ram: 64MiB, nice: 5, best_effort: true}, cmdline: 'sleep 1000'}";

/// An executor of a version, with one plain task.
struct Group {
    stage: Fake,
    program: Program,
    _bench: Bench,
}

impl Group {
    fn new(version: Version) -> Group {
        let bench = Bench::new();
        let program = Program::new(&bench, version);
        let stage = Fake::new(Setting {
            program: Some(program.0.clone()),
            ..Setting::default()
        });
        let mut group = Group {
            stage,
            program,
            _bench: bench,
        };
        group.launch("plain", PLAIN);
        wait_state(&group.stage, "plain", "RUNNING");
        group
    }

    fn launch(&mut self, id: &'static str, data: &str) {
        self.stage.launch(&[task(id, data)], false);
    }

    fn runner(&self) -> u64 {
        wait_for("the runner", || {
            status(&self.stage, "plain")["runner_pid"].as_u64()
        })
    }

    /// Replaces the program, and then its runner; the agent knows the next one.
    fn upgrade(&self, version: Version) {
        self.program.become_version(version);
        let runner = self.runner();
        let subscriptions = self.stage.agent.subscriptions();
        signal(runner, Signal::SIGKILL);
        wait_for("another runner", || {
            let now = status(&self.stage, "plain")["runner_pid"].as_u64();
            now.filter(|now| *now != runner)
        });
        wait_for("its subscription", || {
            (self.stage.agent.subscriptions() > subscriptions).then_some(())
        });
    }

    /// The first process of the task.
    fn first(&self, id: &str) -> serde_json::Value {
        status(&self.stage, id)["processes"][0]["runs"][0]["pid"].clone()
    }
}

#[test]
fn a_launch_that_an_older_keeper_would_run_bare_fails_and_says_why() {
    if !is_there() {
        return;
    }
    let mut group = Group::new(Older);
    group.upgrade(Present);
    for (id, data, what) in [
        ("limited", LIMITED, "`resources` of a process"),
        ("private", PRIVATE, "`isolation: private`"),
    ] {
        group.launch(id, data);
        wait_state(&group.stage, id, "FAILED");
        let said = last(&group.stage, id).message().to_owned();
        assert!(said.contains("keeper is of an older version"), "{said}");
        assert!(said.contains(what), "{said}");
    }
    // What may be done without is told.
    group.launch("effort", BEST_EFFORT);
    wait_state(&group.stage, "effort", "RUNNING");
    let said = wait_for("the notices", || {
        let said = status(&group.stage, "effort")["notices"].to_string();
        said.contains("nice").then_some(said)
    });
    assert!(said.contains("not enforced"), "{said}");
    group.stage.kill("effort", None);
    wait_state(&group.stage, "effort", "KILLED");
    // A runner after that knows the same.
    group.upgrade(Present);
    group.launch("again", LIMITED);
    wait_state(&group.stage, "again", "FAILED");
    group.stage.kill("plain", None);
    wait_state(&group.stage, "plain", "KILLED");
}

#[test]
fn an_older_runner_is_not_used_while_a_task_is_held_to_what_it_does_not_know() {
    if !is_there() {
        return;
    }
    let mut group = Group::new(Present);
    group.launch("limited", LIMITED);
    group.launch("private", PRIVATE);
    for id in ["limited", "private"] {
        wait_state(&group.stage, id, "RUNNING");
    }
    group.upgrade(Older);
    group.launch("another", LIMITED);
    group.launch("secret", PRIVATE);
    for id in ["another", "secret"] {
        wait_state(&group.stage, id, "RUNNING");
    }
    assert!(is_grouped(&group.first("another"), "another"));
    assert!(is_private(&group.first("secret")));
    for id in ["plain", "limited", "private", "another", "secret"] {
        group.stage.kill(id, None);
        wait_state(&group.stage, id, "KILLED");
    }
}
