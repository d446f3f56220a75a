//! Jobs on a cluster where everything works.

use std::{
    io::{BufRead, BufReader},
    sync::atomic::{AtomicU32, Ordering},
};

use dewar::mesos::{
    fakes::master::{Fault, Options},
    protocol::messages::TaskState,
};
use serde_json::Value;

use super::cluster::{Cluster, KEY, bad, job, options};
use crate::support::{code, finish, wait_for};

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
    // The kills get lost, so the job is there until the scheduler repeats them.
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
