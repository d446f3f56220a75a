//! The executor in a container with limits of its own: our groups nest below the container's, and
//! end with it. Needs root, cgroup v1 (Mesos 1.11 knows no other) and a real Mesos.

use std::{fs, path::Path};

use dewar::mesos::protocol::messages::task_status::Reason;
use nix::sys::signal::Signal;

use crate::{
    mesos::real::{Real, is_there},
    mesos::stage::{Setting, Stage, last, status, task, wait_state},
    support::{code, wait_for},
};

fn in_cgroups() -> Setting {
    Setting {
        cgroups: true,
        ..Setting::default()
    }
}

/// The group of a process in one hierarchy of v1.
fn group_of(pid: u64, controller: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its groups");
    let mut lines = text.lines();
    let line = lines.find_map(|line| {
        line.split(':')
            .nth(1)
            .filter(|name| *name == controller)
            .map(|_| line)
    });
    line.expect("the controller")
        .rsplit(':')
        .next()
        .expect("a path")
        .to_owned()
}

#[test]
fn groups_of_a_task_nest_below_those_of_its_container_and_end_with_it() {
    if !is_there() {
        return;
    }
    let mut stage = Real::new(in_cgroups());
    let data = "processes: [{name: main, resources: {ram: 32MiB, cpu: 0.5, pids: 20}, cmdline: 'sleep 1000'}]";
    stage.launch(&[task("nested", data)], false);
    wait_state(&stage, "nested", "RUNNING");
    let seen = status(&stage, "nested");
    let root = seen["root_pid"].as_u64().expect("a pid");
    let first = seen["processes"][0]["runs"][0]["pid"]
        .as_u64()
        .expect("a pid");
    for controller in ["memory", "cpu"] {
        let (container, own) = (group_of(root, controller), group_of(first, controller));
        assert!(container.contains("dewar-test-mesos-"), "{container}");
        assert_eq!(own, format!("{container}/dewar.nested/main.0"));
    }
    let groups: Vec<String> = seen["cgroups"]
        .as_array()
        .expect("groups")
        .iter()
        .filter_map(|group| group.as_str().map(str::to_owned))
        .collect();
    assert!(
        groups.iter().all(|group| Path::new(group).exists()),
        "{groups:?}"
    );
    stage.kill("nested", None);
    wait_state(&stage, "nested", "KILLED");
    wait_for("the groups' end", || {
        groups
            .iter()
            .all(|group| !Path::new(group).exists())
            .then_some(())
    });
}

#[test]
fn a_task_that_is_out_of_memory_is_reported_so() {
    if !is_there() {
        return;
    }
    let mut stage = Real::new(in_cgroups());
    let data = "processes: [{name: hog, resources: {ram: 32MiB}, argv: [dd, if=/dev/zero, of=/dev/null, bs=100M, count=1]}]";
    stage.launch(&[task("hungry", data)], false);
    wait_state(&stage, "hungry", "FAILED");
    let update = last(&stage, "hungry");
    assert_eq!(update.reason(), Reason::ContainerLimitationMemory);
    let message = update.message().to_owned();
    assert!(
        message.starts_with("process hog failed (out of memory: limit 32 MiB, peak 3"),
        "{message}"
    );
}

#[test]
fn a_container_that_is_destroyed_takes_its_groups_along() {
    if !is_there() {
        return;
    }
    let mut stage = Real::new(in_cgroups());
    let data = "isolation: private\nprocesses: [{name: main, resources: {ram: 32MiB, pids: 20}, cmdline: 'sleep 1000'}]";
    stage.launch(&[task("destroyed", data)], false);
    wait_state(&stage, "destroyed", "RUNNING");
    let seen = status(&stage, "destroyed");
    let groups = seen["cgroups"].as_array().expect("groups").clone();
    // The agent kills everything in the container at once: no keeper is left to tidy up.
    stage.end_agent(Signal::SIGUSR1);
    wait_for("the executor to be gone", || {
        stage.is_executor_gone().then_some(())
    });
    let is_left = |name: &str| {
        let mut groups = groups.iter().filter_map(|group| group.as_str());
        groups.any(|group| group.contains(name) && Path::new(group).exists())
    };
    assert!(!is_left("/memory/"), "it was below the container's");
    // Where the container had no group of its own, the next one who makes groups there removes what
    // is left.
    let task = "processes: [{name: a, resources: {pids: 20}, cmdline: 'true'}]";
    let file = stage.bench().file("next.yaml", task).display().to_string();
    assert_eq!(code(&stage.bench().run(&["run", &file, "--id", "next"])), 0);
    assert!(!is_left("/"), "{groups:?}");
}
