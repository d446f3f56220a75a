//! What the last update says: which process failed the task, and who had no time.

use std::time::Duration;

use super::stage::{Fake, Setting, Spec, Stage, file, last, task, wait_state};
use crate::support::wait_for;

fn until(stage: &dyn Stage, name: &str) {
    wait_for(name, || file(stage, "t", name).exists().then_some(()));
}

/// The message of the update with which a task of this YAML is killed within `grace`.
fn message_of_a_kill(data: &str, grace: Duration) -> String {
    let mut stage = Fake::new(Setting::default());
    stage.launch(&[task("t", data)], false);
    wait_state(&stage, "t", "RUNNING");
    until(&stage, "deaf");
    stage.kill("t", Some(grace));
    wait_state(&stage, "t", "KILLED");
    last(&stage, "t").message().to_owned()
}

const DEAF: &str = "
processes:
  - {name: a, cmdline: 'trap \"\" TERM; touch deaf; while :; do sleep 0.05; done'}
  - {name: pack, final: true, cmdline: 'true'}
";

#[test]
fn a_final_process_without_time_is_in_the_last_update() {
    let grace = Duration::from_millis(500);
    assert_eq!(
        message_of_a_kill(DEAF, grace),
        "killed; no time was left for final process pack"
    );
}

#[test]
fn of_a_kill_policy_final_processes_have_their_share() {
    let data = format!("finalization_wait: 100s\nfinal_wait: 95s{DEAF}");
    assert_eq!(message_of_a_kill(&data, Duration::from_secs(20)), "killed");
}

/// The message of the update with which a task of this YAML fails.
fn message_of_a_failure(data: &str) -> String {
    let mut stage = Fake::new(Setting::default());
    let spec = Spec {
        grace: Some(Duration::from_secs(10)),
        ..task("t", data)
    };
    stage.launch(&[spec], false);
    wait_state(&stage, "t", "FAILED");
    last(&stage, "t").message().to_owned()
}

#[test]
fn what_was_asked_to_stop_is_not_why_a_task_failed() {
    for code in [143, 1] {
        let message = message_of_a_failure(&format!(
            "
processes:
  - {{name: culprit, cmdline: 'while [ ! -e up ]; do sleep 0.02; done; exit 7'}}
  - {{name: server, cmdline: 'trap \"exit {code}\" TERM; touch up; while :; do sleep 0.02; done'}}
  - {{name: last, final: true, cmdline: 'exit 3'}}
"
        ));
        assert_eq!(message, "process culprit exited with 7 after 1 run");
    }
}

#[test]
fn a_process_that_max_runs_bounded_is_named() {
    let message = message_of_a_failure(
        "processes: [{name: a, max_runs: 3, min_duration: 0s, cmdline: 'kill -KILL $$'}, {name: b, cmdline: 'exec sleep 1000'}]",
    );
    assert_eq!(message, "process a died of SIGKILL after 3 runs");
}
