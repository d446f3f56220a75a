//! The Mesos executor: the same scenarios against the fake agent and against a real Mesos.
//!
//! For each the exact list of updates that the scheduler saw.

use std::{fs, time::Duration};

use dewar::mesos::{
    fakes::agent::Fault,
    protocol::messages::{CheckInfo, CommandInfo, HealthCheck, check_info},
};
use nix::sys::signal::Signal;

use crate::{
    mesos::real::{Real, is_there},
    mesos::stage::{Fake, Setting, Spec, Stage, file, last, states, status, task, wait_state},
    support::{Known, descriptors::copy_of, signal, wait_for},
};

const SLEEPS: &str = "
finalization_wait: 10s
processes:
  - {name: main, cmdline: 'echo $$ > pid; sleep 1000'}
  - {name: last, final: true, cmdline: 'touch finalized'}
";

fn pid_of(stage: &dyn Stage, id: &str, who: &str) -> u64 {
    wait_for(who, || status(stage, id)[who].as_u64())
}

/// The first process of the task's main process.
fn main_process(stage: &dyn Stage, id: &str) -> Known {
    let path = file(stage, id, "pid");
    wait_for("the process' pid", || {
        let text = fs::read_to_string(&path).ok()?;
        text.ends_with('\n').then(|| Known::new(&text))
    })
}

fn dies(process: &Known) {
    wait_for("the process to die", || (!process.lives()).then_some(()));
}

fn leaves(stage: &dyn Stage) {
    wait_for("the executor to leave", || {
        stage.is_executor_gone().then_some(())
    });
}

pub fn finish(stage: &mut dyn Stage) {
    stage.launch(
        &[task(
            "t",
            "processes: [{name: a, cmdline: 'sleep 0.2; echo hi'}]",
        )],
        false,
    );
    wait_state(stage, "t", "FINISHED");
    assert_eq!(states(stage, "t"), ["STARTING", "RUNNING", "FINISHED"]);
    let data: serde_json::Value =
        serde_json::from_slice(last(stage, "t").data()).expect("a process table");
    assert_eq!(data["processes"][0]["runs"][0]["exit_code"], 0);
    leaves(stage);
    let link = stage.sandbox().join("sandbox/.logs/a/0/stdout");
    assert_eq!(fs::read_to_string(link).expect("a log"), "hi\n");
}

pub fn fail(stage: &mut dyn Stage) {
    let data = r#"{"processes": [{"name": "a", "max_failures": 2, "min_duration": 0.1, "cmdline": "sleep 0.1; echo no such luck >&2; exit 7"}]}"#;
    stage.launch(&[task("t", data)], false);
    wait_state(stage, "t", "FAILED");
    assert_eq!(states(stage, "t"), ["STARTING", "RUNNING", "FAILED"]);
    assert_eq!(
        last(stage, "t").message(),
        "process a exited with 7 after 2 runs; stderr: no such luck"
    );
    leaves(stage);
}

pub fn kill(stage: &mut dyn Stage) {
    stage.launch(&[task("t", SLEEPS)], false);
    wait_state(stage, "t", "RUNNING");
    let process = main_process(stage, "t");
    stage.kill("t", None);
    wait_state(stage, "t", "KILLED");
    assert_eq!(states(stage, "t"), ["STARTING", "RUNNING", "KILLED"]);
    assert!(file(stage, "t", "finalized").exists(), "no finalizer ran");
    assert!(!process.lives());
    leaves(stage);
}

pub fn kill_that_is_ignored(stage: &mut dyn Stage) {
    let data = "processes: [{name: a, cmdline: 'trap \"\" TERM; echo $$ > pid; while :; do sleep 0.1; done'}]";
    stage.launch(&[task("t", data)], false);
    wait_state(stage, "t", "RUNNING");
    let process = main_process(stage, "t");
    stage.kill("t", Some(Duration::from_millis(300)));
    wait_state(stage, "t", "KILLED");
    assert_eq!(states(stage, "t"), ["STARTING", "RUNNING", "KILLED"]);
    assert!(!process.lives());
    leaves(stage);
}

pub fn kill_by_the_tasks_own_policy(stage: &mut dyn Stage) {
    let spec = Spec {
        grace: Some(Duration::from_millis(300)),
        ..task(
            "t",
            "finalization_wait: 1000s\nprocesses: [{name: a, cmdline: 'trap \"\" TERM; touch deaf; while :; do sleep 0.1; done'}]",
        )
    };
    stage.launch(&[spec], false);
    wait_for("the trap", || {
        file(stage, "t", "deaf").exists().then_some(())
    });
    wait_state(stage, "t", "RUNNING");
    stage.kill("t", None);
    wait_state(stage, "t", "KILLED");
    assert_eq!(states(stage, "t"), ["STARTING", "RUNNING", "KILLED"]);
    leaves(stage);
}

pub fn shutdown(stage: &mut dyn Stage) {
    stage.launch(&[task("one", SLEEPS), task("two", SLEEPS)], false);
    for id in ["one", "two"] {
        wait_state(stage, id, "RUNNING");
    }
    let process = main_process(stage, "one");
    stage.shutdown();
    for id in ["one", "two"] {
        wait_state(stage, id, "KILLED");
        assert_eq!(states(stage, id), ["STARTING", "RUNNING", "KILLED"]);
        assert!(file(stage, id, "finalized").exists(), "no finalizer ran");
    }
    dies(&process);
    leaves(stage);
}

pub fn runner_killed(stage: &mut dyn Stage) {
    survives(stage, "runner_pid");
}

pub fn keeper_killed(stage: &mut dyn Stage) {
    survives(stage, "keeper_pid");
}

/// `kill -9` of one of ours loses nothing, and what comes next still works.
fn survives(stage: &mut dyn Stage, who: &str) {
    stage.launch(&[task("t", SLEEPS)], false);
    wait_state(stage, "t", "RUNNING");
    let process = main_process(stage, "t");
    let before = pid_of(stage, "t", who);
    signal(before, Signal::SIGKILL);
    wait_for("its successor", || {
        let status = status(stage, "t");
        let runner = status["runner_pid"].as_u64().is_some();
        let now = status[who].as_u64()?;
        (runner && now != before).then_some(())
    });
    assert!(process.lives(), "the task's process did not survive");
    // A kill reaches it only once it has subscribed again.
    wait_for("the kill", || {
        stage.kill("t", None);
        states(stage, "t")
            .contains(&"KILLED".to_owned())
            .then_some(())
    });
    assert_eq!(states(stage, "t"), ["STARTING", "RUNNING", "KILLED"]);
    let runs = status(stage, "t")["processes"][0]["runs"].clone();
    assert_eq!(runs.as_array().map(Vec::len), Some(1), "{runs}");
    dies(&process);
    leaves(stage);
}

pub fn first_process_killed(stage: &mut dyn Stage) {
    stage.launch(&[task("t", SLEEPS)], false);
    wait_state(stage, "t", "RUNNING");
    let process = main_process(stage, "t");
    let keeper = Known::new(&pid_of(stage, "t", "keeper_pid").to_string());
    signal(pid_of(stage, "t", "root_pid"), Signal::SIGKILL);
    dies(&process);
    wait_for("the keeper to leave", || (!keeper.lives()).then_some(()));
}

pub fn agent_restarted_with_a_live_task(stage: &mut dyn Stage) {
    stage.launch(&[task("t", SLEEPS)], false);
    wait_state(stage, "t", "RUNNING");
    let process = main_process(stage, "t");
    stage.agent_down();
    stage.agent_up();
    assert!(process.lives(), "the task did not survive its agent");
    wait_for("the kill", || {
        stage.kill("t", None);
        states(stage, "t")
            .contains(&"KILLED".to_owned())
            .then_some(())
    });
    assert_eq!(states(stage, "t"), ["STARTING", "RUNNING", "KILLED"]);
    leaves(stage);
}

pub fn agent_restarted_with_unsent_updates(stage: &mut dyn Stage) {
    let data = "processes: [{name: a, cmdline: 'while [ ! -e go ]; do sleep 0.05; done; exit 4'}]";
    stage.launch(&[task("t", data)], false);
    wait_state(stage, "t", "RUNNING");
    stage.agent_down();
    fs::write(file(stage, "t", "go"), "").expect("write");
    wait_for("the task's end", || {
        let status = stage.bench().task("t")?;
        (status["state"] == "FAILED").then_some(())
    });
    stage.agent_up();
    wait_state(stage, "t", "FAILED");
    assert_eq!(states(stage, "t"), ["STARTING", "RUNNING", "FAILED"]);
    leaves(stage);
}

pub fn stream_dropped(stage: &mut dyn Stage) {
    stage.launch(&[task("t", SLEEPS)], false);
    wait_state(stage, "t", "RUNNING");
    let process = main_process(stage, "t");
    for _ in 0..3 {
        let runner = pid_of(stage, "t", "runner_pid");
        let before = wait_for("the stream", || {
            let streams = sockets(runner);
            (!streams.is_empty()).then_some(streams)
        });
        for fd in &before {
            cut(runner, *fd);
        }
        assert!(process.lives());
    }
    wait_for("the kill", || {
        stage.kill("t", None);
        states(stage, "t")
            .contains(&"KILLED".to_owned())
            .then_some(())
    });
    assert_eq!(states(stage, "t"), ["STARTING", "RUNNING", "KILLED"]);
    leaves(stage);
}

/// The TCP connections of a process, by descriptor.
fn sockets(pid: u64) -> Vec<i32> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("tcp");
    // Established ones: state 01, and the inode is the tenth word.
    let established: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.get(3) == Some(&"01"))
        .filter_map(|words| words.get(9).map(|inode| format!("socket:[{inode}]")))
        .collect();
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors");
    let found = entries.flatten().filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        let is_tcp = established
            .iter()
            .any(|name| target.as_os_str() == name.as_str());
        is_tcp
            .then(|| entry.file_name().to_str()?.parse().ok())
            .flatten()
    });
    found.collect()
}

/// Shuts a connection of another process down, as a network that breaks does.
fn cut(pid: u64, fd: i32) {
    if let Some(copy) = copy_of(pid, fd) {
        let stream = std::net::TcpStream::from(copy);
        // It may be closed by now.
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

pub fn group_lives_and_dies_together(stage: &mut dyn Stage) {
    let data = "processes: [{name: a, cmdline: 'while [ ! -e go ]; do sleep 0.05; done; exit 4'}]";
    stage.launch(&[task("one", data), task("two", SLEEPS)], true);
    for id in ["one", "two"] {
        wait_state(stage, id, "RUNNING");
    }
    fs::write(file(stage, "one", "go"), "").expect("write");
    wait_state(stage, "one", "FAILED");
    wait_state(stage, "two", "KILLED");
    assert_eq!(states(stage, "one"), ["STARTING", "RUNNING", "FAILED"]);
    assert_eq!(states(stage, "two"), ["STARTING", "RUNNING", "KILLED"]);
    assert!(file(stage, "two", "finalized").exists(), "no finalizer ran");
    leaves(stage);
}

pub fn several_tasks_on_one_executor(stage: &mut dyn Stage) {
    stage.launch(&[task("long", SLEEPS)], false);
    wait_state(stage, "long", "RUNNING");
    stage.launch(
        &[task("short", "processes: [{name: a, cmdline: 'true'}]")],
        false,
    );
    wait_state(stage, "short", "FINISHED");
    // One keeper has them both, each with its own journal.
    let [long, short] = ["long", "short"].map(|id| status(stage, id));
    assert_eq!(long["keeper_pid"], short["keeper_pid"]);
    assert!(long["keeper_pid"].is_u64(), "{long}");
    assert_ne!(long["journal"], short["journal"]);
    assert_eq!(states(stage, "long"), ["STARTING", "RUNNING"]);
    stage.kill("long", None);
    wait_state(stage, "long", "KILLED");
    leaves(stage);
}

pub fn garbage(stage: &mut dyn Stage) {
    stage.launch(&[task("t", "processes: [{nam: a}]")], false);
    wait_state(stage, "t", "FAILED");
    assert_eq!(states(stage, "t"), ["STARTING", "FAILED"]);
    let status = last(stage, "t");
    assert_eq!(status.reason().as_str_name(), "REASON_TASK_INVALID");
    assert!(
        status.message().contains("needs `name`"),
        "{}",
        status.message()
    );
    leaves(stage);
}

pub fn sandbox_that_cannot_be_built(stage: &mut dyn Stage) {
    stage.launch(&[task("first", SLEEPS)], false);
    wait_state(stage, "first", "RUNNING");
    // Where the second task's sandbox would be is a file.
    fs::create_dir_all(stage.sandbox().join("tasks/t")).expect("a directory");
    fs::write(stage.sandbox().join("tasks/t/sandbox"), "in the way").expect("a file");
    stage.launch(&[task("t", SLEEPS)], false);
    wait_state(stage, "t", "FAILED");
    assert_eq!(states(stage, "t"), ["STARTING", "FAILED"]);
    let status = last(stage, "t");
    assert_eq!(
        status.reason().as_str_name(),
        "REASON_CONTAINER_LAUNCH_FAILED"
    );
    assert!(
        status.message().contains("tasks/t/sandbox"),
        "{}",
        status.message()
    );
    stage.kill("first", None);
    wait_state(stage, "first", "KILLED");
    leaves(stage);
}

pub fn command_without_data(stage: &mut dyn Stage) {
    let spec = Spec {
        id: "t",
        command: Some("echo from $0; sleep 0.2; exit 5".to_owned()),
        ..Spec::default()
    };
    // A master lets a command and an executor meet only in a group.
    stage.launch(&[spec], true);
    wait_state(stage, "t", "FAILED");
    assert_eq!(states(stage, "t"), ["STARTING", "RUNNING", "FAILED"]);
    assert!(
        last(stage, "t")
            .message()
            .starts_with("process t exited with 5 after 1 run")
    );
    let log = fs::read_to_string(file(stage, "t", ".logs/t/0/stdout")).expect("a log");
    assert_eq!(log, "from /bin/sh\n");
    leaves(stage);
}

pub fn wrapper_ports_and_bindings(stage: &mut dyn Stage) {
    let data = r#"{"instance": 3, "role": "nobody-in-particular", "environment": "prod",
        "task": {"processes": [{"name": "a", "cmdline": "echo {{mesos.instance}} {{thermos.ports[admin]}} {{thermos.ports[http]}} {{thermos.task_id}}; sleep 0.2"}]}}"#;
    let spec = Spec {
        ports: vec![31005, 31007],
        ..task("t", &data.replace("nobody-in-particular", &user()))
    };
    stage.launch(&[spec], false);
    wait_state(stage, "t", "FINISHED");
    let log = fs::read_to_string(file(stage, "t", ".logs/a/0/stdout")).expect("a log");
    assert_eq!(log, "3 31005 31007 t\n");
    leaves(stage);
}

fn user() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("a look");
    user.expect("a user").name
}

pub fn port_that_was_not_offered(stage: &mut dyn Stage) {
    let data = "processes: [{name: a, cmdline: 'echo {{thermos.ports[http]}}'}]";
    stage.launch(&[task("t", data)], false);
    wait_state(stage, "t", "FAILED");
    assert_eq!(states(stage, "t"), ["STARTING", "FAILED"]);
    assert_eq!(
        last(stage, "t").message(),
        "port `http` is needed, but only 0 port(s) were offered to the task"
    );
    leaves(stage);
}

pub fn health_from_failing_to_healthy_to_failing(stage: &mut dyn Stage) {
    let spec = Spec {
        health: Some(HealthCheck {
            command: Some(CommandInfo {
                value: Some("test -e works".to_owned()),
                ..CommandInfo::default()
            }),
            delay_seconds: Some(0.0),
            interval_seconds: Some(0.1),
            timeout_seconds: Some(5.0),
            grace_period_seconds: Some(60.0),
            consecutive_failures: Some(1),
            ..HealthCheck::default()
        }),
        ..task(
            "t",
            "processes: [{name: a, cmdline: 'sleep 0.5; touch works; echo $$ > pid; sleep 1000'}]",
        )
    };
    stage.launch(&[spec], false);
    wait_state(stage, "t", "RUNNING");
    let running = last(stage, "t");
    assert_eq!(running.healthy, Some(true));
    assert!(
        file(stage, "t", "works").exists(),
        "RUNNING before it was healthy"
    );
    let process = main_process(stage, "t");
    // The grace is 600 attempts; it ends with the first success, as Mesos has it.
    fs::remove_file(file(stage, "t", "works")).expect("the file");
    wait_state(stage, "t", "FAILED");
    assert_eq!(states(stage, "t"), ["STARTING", "RUNNING", "FAILED"]);
    let failed = last(stage, "t");
    assert_eq!(failed.healthy, Some(false));
    assert!(
        failed
            .message()
            .starts_with("failed health check: command returned"),
        "{}",
        failed.message()
    );
    assert!(!process.lives());
    leaves(stage);
}

pub fn check_that_is_only_reported(stage: &mut dyn Stage) {
    let spec = Spec {
        check: Some(CheckInfo {
            r#type: Some(check_info::Type::Command.into()),
            command: Some(check_info::Command {
                command: CommandInfo {
                    value: Some("test -e works || exit 3".to_owned()),
                    ..CommandInfo::default()
                },
            }),
            delay_seconds: Some(0.0),
            interval_seconds: Some(0.1),
            timeout_seconds: Some(5.0),
            ..CheckInfo::default()
        }),
        ..task("t", SLEEPS)
    };
    stage.launch(&[spec], false);
    let found = |stage: &dyn Stage| -> Vec<Option<i32>> {
        let updates = stage.updates();
        let checks = updates.iter().filter_map(|status| status.check_status);
        checks
            .map(|check| check.command.and_then(|command| command.exit_code))
            .collect()
    };
    wait_for("the first result", || {
        found(stage).contains(&Some(3)).then_some(())
    });
    fs::write(file(stage, "t", "works"), "").expect("a file");
    wait_for("another result", || {
        found(stage).contains(&Some(0)).then_some(())
    });
    assert_eq!(
        last(stage, "t").reason().as_str_name(),
        "REASON_TASK_CHECK_STATUS_UPDATED"
    );
    stage.kill("t", None);
    wait_state(stage, "t", "KILLED");
    assert_eq!(
        states(stage, "t"),
        ["STARTING", "RUNNING", "RUNNING", "RUNNING", "KILLED"]
    );
    assert_eq!(found(stage), [None, None, Some(3), Some(0), Some(0)]);
    leaves(stage);
}

pub fn what_is_for_a_console_is_in_the_containers_output(stage: &mut dyn Stage) {
    let data = "processes: [{name: a, cmdline: 'echo one; echo two >&2; sleep 0.2; echo three', logger: {destination: both}}, {name: b, cmdline: 'echo quiet'}]";
    stage.launch(&[task("t", data)], false);
    wait_state(stage, "t", "FINISHED");
    leaves(stage);
    let read = |name: &str| fs::read_to_string(stage.sandbox().join(name)).expect("output");
    assert!(
        read("stdout").contains("a | one\na | three\n"),
        "{}",
        read("stdout")
    );
    assert!(read("stderr").contains("a | two\n"), "{}", read("stderr"));
    assert!(!read("stdout").contains("quiet"));
    let log = fs::read_to_string(file(stage, "t", ".logs/a/0/stdout")).expect("a log");
    assert_eq!(log, "one\nthree\n");
}

pub fn wrapped_health_check(stage: &mut dyn Stage) {
    let data = r#"{"instance": 0, "role": "ROLE", "environment": "prod",
        "health_check_config": {"health_checker": {"shell": {"shell_command": "test -e {{thermos.task_id}}"}},
            "initial_interval_secs": 5.0, "interval_secs": 0.1, "max_consecutive_failures": 0},
        "task": {"processes": [{"name": "a", "cmdline": "sleep 0.4; touch t; sleep 0.5"}]}}"#;
    stage.launch(&[task("t", &data.replace("ROLE", &user()))], false);
    wait_state(stage, "t", "FINISHED");
    assert_eq!(states(stage, "t"), ["STARTING", "RUNNING", "FINISHED"]);
    leaves(stage);
}

/// Two tests a scenario: against the fake agent and against the real one.
macro_rules! scenarios {
    ($($scenario:ident $setting:expr;)*) => {
        mod fake {
            use super::*;
            $(#[test]
            fn $scenario() {
                super::$scenario(&mut Fake::new($setting));
            })*
        }

        mod real {
            use super::*;
            $(#[test]
            fn $scenario() {
                if is_there() {
                    super::$scenario(&mut Real::new($setting));
                }
            })*
        }
    };
}

fn usual() -> Setting {
    Setting::default()
}

scenarios! {
    finish usual();
    fail usual();
    kill usual();
    kill_that_is_ignored usual();
    kill_by_the_tasks_own_policy usual();
    shutdown usual();
    runner_killed usual();
    keeper_killed usual();
    first_process_killed usual();
    agent_restarted_with_a_live_task usual();
    agent_restarted_with_unsent_updates usual();
    stream_dropped usual();
    group_lives_and_dies_together usual();
    several_tasks_on_one_executor usual();
    garbage usual();
    sandbox_that_cannot_be_built usual();
    command_without_data usual();
    wrapper_ports_and_bindings usual();
    port_that_was_not_offered usual();
    health_from_failing_to_healthy_to_failing usual();
    wrapped_health_check usual();
    what_is_for_a_console_is_in_the_containers_output usual();
    check_that_is_only_reported usual();
}

/// The same conversation in every form that it may have.
fn forms() -> [Setting; 3] {
    let json = Setting {
        json: true,
        ..usual()
    };
    let token = Setting {
        token: true,
        ..usual()
    };
    let domain_socket = Setting {
        domain_socket: true,
        ..usual()
    };
    [json, token, domain_socket]
}

#[test]
fn every_form_of_the_conversation_with_the_fake_agent() {
    for setting in forms() {
        for scenario in [kill, agent_restarted_with_unsent_updates] {
            scenario(&mut Fake::new(setting.clone()));
        }
    }
}

#[test]
fn every_form_of_the_conversation_with_the_real_agent() {
    for setting in forms() {
        for scenario in [kill, agent_restarted_with_unsent_updates] {
            if is_there() {
                scenario(&mut Real::new(setting.clone()));
            }
        }
    }
}

#[test]
fn a_framework_that_is_torn_down_leaves_nothing_running() {
    if !is_there() {
        return;
    }
    let mut stage = Real::new(usual());
    stage.launch(&[task("t", SLEEPS)], false);
    wait_state(&stage, "t", "RUNNING");
    let process = main_process(&stage, "t");
    stage.teardown();
    dies(&process);
    leaves(&stage);
}

#[test]
fn an_agent_that_comes_back_too_late_finds_nothing_running() {
    let mut stage = Fake::new(Setting {
        recovery: Duration::from_millis(500),
        grace: Duration::from_secs(2),
        ..usual()
    });
    stage.launch(&[task("t", SLEEPS)], false);
    wait_state(&stage, "t", "RUNNING");
    let process = main_process(&stage, "t");
    stage.agent_down();
    dies(&process);
    leaves(&stage);
    assert!(
        file(&stage, "t", "finalized").exists(),
        "it was not ended gracefully"
    );
    assert_eq!(states(&stage, "t"), ["STARTING", "RUNNING"]);
}

#[test]
fn a_real_agent_that_comes_back_too_late_says_what_became_of_the_task() {
    if !is_there() {
        return;
    }
    let mut stage = Real::new(Setting {
        recovery: Duration::from_millis(1000),
        grace: Duration::from_secs(2),
        ..usual()
    });
    stage.launch(&[task("t", SLEEPS)], false);
    wait_state(&stage, "t", "RUNNING");
    let process = main_process(&stage, "t");
    stage.agent_down();
    dies(&process);
    leaves(&stage);
    assert!(
        file(&stage, "t", "finalized").exists(),
        "it was not ended gracefully"
    );
    stage.agent_up();
    wait_for("the agent's word", || {
        (states(&stage, "t").len() > 2).then_some(())
    });
    let status = last(&stage, "t");
    assert!(
        ["TASK_LOST", "TASK_FAILED"].contains(&status.state().as_str_name()),
        "{status:?}"
    );
    assert_eq!(states(&stage, "t").len(), 3);
}

#[test]
fn a_stream_that_drops_is_made_again_and_nothing_is_said_twice() {
    let mut stage = Fake::new(usual());
    stage.launch(&[task("t", SLEEPS)], false);
    wait_state(&stage, "t", "RUNNING");
    for round in 2..5 {
        stage.agent.inflict(Fault::Drop);
        wait_for("the next subscription", || {
            (stage.agent.subscriptions() >= round).then_some(())
        });
    }
    wait_for("a stream", || stage.agent.has_stream().then_some(()));
    stage.kill("t", None);
    wait_state(&stage, "t", "KILLED");
    assert_eq!(states(&stage, "t"), ["STARTING", "RUNNING", "KILLED"]);
    leaves(&stage);
}

#[test]
fn a_shutdown_may_be_the_first_word_of_an_agent_that_comes_back() {
    // Time enough to subscribe, end and be acknowledged, however busy the machine is.
    let setting = Setting {
        grace: Duration::from_secs(120),
        ..usual()
    };
    let mut stage = Fake::new(setting);
    stage.launch(&[task("t", SLEEPS)], false);
    wait_state(&stage, "t", "RUNNING");
    stage.agent_down();
    stage.shutdown();
    stage.agent_up();
    wait_state(&stage, "t", "KILLED");
    assert_eq!(states(&stage, "t"), ["STARTING", "RUNNING", "KILLED"]);
    leaves(&stage);
}

#[test]
fn a_late_acknowledgement_is_waited_for() {
    let mut stage = Fake::new(usual());
    stage.agent.inflict(Fault::Late(Duration::from_millis(700)));
    stage.launch(
        &[task("t", "processes: [{name: a, cmdline: 'true'}]")],
        false,
    );
    wait_state(&stage, "t", "FINISHED");
    assert_eq!(states(&stage, "t"), ["STARTING", "RUNNING", "FINISHED"]);
    leaves(&stage);
}

#[test]
fn an_id_that_is_used_again_means_the_newest_task() {
    let mut first = Fake::new(usual());
    first.launch(
        &[task("t", "processes: [{name: a, cmdline: 'true'}]")],
        false,
    );
    wait_state(&first, "t", "FINISHED");
    leaves(&first);
    let mut second = Fake::sharing(&first, usual());
    second.launch(&[task("t", SLEEPS)], false);
    wait_state(&second, "t", "RUNNING");
    assert_eq!(
        first.bench().task("t").expect("the task")["state"],
        "ACTIVE"
    );
    second.kill("t", None);
    wait_state(&second, "t", "KILLED");
    leaves(&second);
}

#[test]
fn without_checkpointing_it_ends_with_its_agent() {
    let mut stage = Fake::new(Setting {
        checkpoint: false,
        ..usual()
    });
    stage.launch(&[task("t", SLEEPS)], false);
    wait_state(&stage, "t", "RUNNING");
    let process = main_process(&stage, "t");
    stage.agent_down();
    dies(&process);
    leaves(&stage);
}

#[test]
fn an_executor_without_a_task_leaves() {
    let mut stage = Fake::new(usual());
    stage.start_executor();
    wait_for("the subscription", || {
        stage.agent.has_stream().then_some(())
    });
    leaves(&stage);
}

#[test]
fn what_is_no_environment_of_an_executor_is_said() {
    let bench = crate::support::Bench::new();
    let output = bench.run(&["executor"]);
    assert_eq!(crate::support::code(&output), 2);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("MESOS_FRAMEWORK_ID is not set"), "{said}");
    assert!(said.contains("dewar run FILE"), "{said}");
}
