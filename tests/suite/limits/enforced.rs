//! Limits that the kernel enforces. They need root and cgroups; on a machine with cgroup v1 the
//! same tests run on v2 in a small virtual machine (`vm.rs`), so nothing here is left out where
//! something is missing.
//!
//! In every test an innocent sibling runs beside the culprit: it must not notice anything.

use std::{fs, path::Path};

use serde_json::Value;

use super::trial::{INNOCENT, Trial, is_v2};
use crate::support::{Known, code, finish, kill_at_once, process_of, wait_for};

#[test]
fn enforced_memory_ends_the_one_that_takes_too_much() {
    let trial = Trial::new();
    let task = format!(
        "max_failures: 2\nprocesses:\n  - {{name: hog, resources: {{ram: 32MiB}}, argv: [dd, if=/dev/zero, of=/dev/null, bs=200M, count=1]}}{INNOCENT}"
    );
    assert_eq!(trial.run(&task, &[]), 0, "one failure is allowed");
    let run = trial.last_run("hog");
    assert_eq!(run["state"], "FAILED", "it counts: {run:#}");
    assert_eq!(run["signal"], "SIGKILL");
    let reason = run["reason"].as_str().expect("a reason");
    assert!(
        reason.starts_with("out of memory: limit 32 MiB, peak 3"),
        "{reason}"
    );
    assert_eq!(run["usage"]["memory_limit"], 32 << 20);
    assert!(run["usage"]["oom_kills"].as_u64() >= Some(1));
    trial.spared();
}

/// The kernel counts a kill while its victim is still dying, and large processes take long to die.
#[test]
fn enforced_memory_is_the_reason_of_every_end_that_it_caused() {
    let trial = Trial::new();
    let argv = "argv: [dd, if=/dev/zero, of=/dev/null, bs=1G, count=1]";
    let hog = "dd if=/dev/zero of=/dev/null bs=1G count=1";
    let rules = "max_failures: 12, min_duration: 0s";
    let task = format!(
        "max_failures: 0
processes:
  - {{name: large, {rules}, resources: {{ram: 128MiB}}, {argv}}}
  - {{name: small, {rules}, resources: {{ram: 16MiB}}, {argv}}}
  - {{name: tiny, {rules}, resources: {{ram: 1MiB}}, {argv}}}
  - {{name: shell, {rules}, resources: {{ram: 32MiB}}, cmdline: '{hog}; exit $?'}}
  - {{name: slow, max_failures: 3, min_duration: 0s, resources: {{ram: 64MiB, cpu: 0.1}}, {argv}}}
  - {{name: several, max_failures: 3, min_duration: 0s, resources: {{ram: 32MiB}}, cmdline: '{hog} & {hog} & exec {hog}'}}
"
    );
    assert_eq!(trial.run(&task, &[]), 0);
    for (name, count) in [
        ("large", 12),
        ("small", 12),
        ("tiny", 12),
        ("shell", 12),
        ("slow", 3),
        ("several", 3),
    ] {
        let process = trial.process(name);
        let runs = process["runs"].as_array().expect("runs");
        assert_eq!(runs.len(), count, "{process:#}");
        for run in runs {
            let reason = run["reason"].as_str().unwrap_or_default();
            let is_told = reason.starts_with("out of memory: limit ") && reason.contains(", peak ");
            assert!(run["state"] == "FAILED" && is_told, "{name}: {run:#}");
        }
    }
    trial.leaves_nothing();
}

#[test]
fn enforced_memory_of_a_helper_is_told_while_its_process_goes_on() {
    let trial = Trial::new();
    let task = format!(
        "processes:\n  - name: parent\n    resources: {{ram: 32MiB}}\n    cmdline: dd if=/dev/zero of=/dev/null bs=200M count=1; echo $? > code; exit 0{INNOCENT}"
    );
    assert_eq!(trial.run(&task, &[]), 0);
    let sandbox = trial.bench.sandbox(&trial.id);
    assert_eq!(
        fs::read_to_string(sandbox.join("code"))
            .expect("code")
            .trim(),
        "137"
    );
    assert_eq!(trial.last_run("parent")["state"], "SUCCESS");
    let status = trial.status();
    let notices = status["notices"].as_array().expect("notices");
    let told = notices.iter().any(|notice| {
        let text = notice["text"].as_str().unwrap_or_default();
        notice["name"] == "parent" && text.starts_with("out of memory: the kernel killed 1")
    });
    assert!(told, "{notices:#?}");
    trial.spared();
}

#[test]
fn enforced_pids_stop_a_fork_bomb_and_all_of_it_dies() {
    let trial = Trial::new();
    let task = format!(
        "max_failures: 2\nprocesses:\n  - name: bomb\n    resources: {{pids: 20}}\n    timeout: 6s\n    cmdline: 'b() {{ b & b & sleep 60; }}; b 2>/dev/null'{INNOCENT}"
    );
    assert_eq!(trial.run(&task, &[]), 0);
    let run = trial.last_run("bomb");
    assert_eq!(run["reason"], "timed out after 6s");
    assert!(run["usage"]["pids_refused"].as_u64() > Some(0), "{run:#}");
    let most = run["usage"]["pids_peak"].as_u64();
    // An older kernel does not remember.
    assert!(most.is_none_or(|most| most <= 20), "{run:#}");
    trial.spared();
}

#[test]
fn enforced_pids_also_of_what_left_its_session() {
    let trial = Trial::new();
    // What escapes in all the ways there are is in the group all the same.
    let task = "processes:\n  - name: main\n    resources: {pids: 20}\n    cmdline: |
      for i in 1 2 3; do (unset HOME; setsid sh -c 'sleep 1000 & sleep 1000' >/dev/null 2>&1 </dev/null &); done
      while [ ! -e go ]; do sleep 0.05; done
";
    trial.start(task, &[]);
    let members = || -> Vec<String> {
        let status = trial.status();
        let groups = status["cgroups"].as_array().cloned().unwrap_or_default();
        let Some(group) = groups.first().and_then(Value::as_str) else {
            return Vec::new();
        };
        let path = Path::new(group).join("main.0/cgroup.procs");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    let pids = wait_for("all pids", || {
        Some(members()).filter(|found| found.len() >= 7)
    });
    let known: Vec<Known> = pids.iter().map(|pid| Known::new(pid)).collect();
    assert_eq!(code(&trial.bench.run(&["kill", "--now", &trial.id])), 0);
    wait_for("their end", || {
        known.iter().all(|one| !one.lives()).then_some(())
    });
    assert_eq!(code(&trial.bench.run(&["wait", &trial.id])), 3);
    wait_for("the groups' end", || {
        trial.groups().is_empty().then_some(())
    });
    trial.leaves_nothing();
}

#[test]
fn enforced_cpu_is_what_was_promised() {
    let trial = Trial::new();
    let task = format!(
        "max_failures: 2\nprocesses:\n  - name: spinner\n    resources: {{cpu: 0.15}}\n    timeout: 4s\n    cmdline: 'while :; do :; done'{INNOCENT}"
    );
    assert_eq!(trial.run(&task, &[]), 0);
    let run = trial.last_run("spinner");
    let used = run["usage"]["cpu_seconds"].as_f64().expect("seconds");
    let at = |field: &str| -> f64 {
        let text = run[field].as_str().expect("a time");
        let time: jiff::Timestamp = text.parse().expect("a time");
        time.as_microsecond() as f64 / 1e6
    };
    let share = used / (at("stopped_at") - at("started_at"));
    // A busy machine may give less; what it was kept from shows that the limit was the reason.
    assert!((0.02..=0.165).contains(&share), "{share} of 0.15: {run:#}");
    assert!(
        run["usage"]["throttled_seconds"].as_f64() > Some(0.5),
        "{run:#}"
    );
    trial.spared();
}

#[test]
fn enforced_disk_fails_the_task_and_a_tmpfs_ends_a_filler() {
    let trial = Trial::new();
    let task = "resources: {cpu: 1, ram: 1GB, disk: 4MiB}\nprocesses:\n  - name: filler\n    cmdline: head -c 8000000 /dev/zero > big; sleep 60\n";
    assert_eq!(trial.run(task, &["--enforce-task"]), 1);
    let status = trial.status();
    let states = status["states"].as_array().expect("states");
    let why = states
        .iter()
        .find_map(|state| state["reason"].as_str())
        .expect("a reason");
    assert!(
        why.starts_with("Disk limit exceeded. Reserved 4194304 bytes vs used "),
        "{why}"
    );
    let notices = status["notices"].to_string();
    assert!(
        // How often depends on how long a look takes.
        notices.contains("the sandbox may take 4 MiB; it is looked at every "),
        "{notices}"
    );

    let trial = Trial::new();
    let task = format!(
        "max_failures: 2\nisolation: private\nvolumes: [{{container_path: /scratch, tmpfs: 2MiB}}]\nprocesses:\n  - name: filler\n    resources: {{pids: 10}}\n    cmdline: head -c 8000000 /dev/zero > /scratch/big{INNOCENT}"
    );
    assert_eq!(trial.run(&task, &[]), 0);
    assert_eq!(trial.last_run("filler")["state"], "FAILED");
    trial.spared();
}

#[test]
fn enforced_limits_of_a_task_hold_for_all_its_processes_together() {
    let trial = Trial::new();
    let hog = "argv: [dd, if=/dev/zero, of=/dev/null, bs=100M, count=1]";
    let task = format!(
        "resources: {{cpu: 2, ram: 48MiB, disk: 1GiB}}\nprocesses:\n  - {{name: hog, {hog}}}\n"
    );
    assert_eq!(trial.run(&task, &["--enforce-task"]), 1);
    let reason = trial.last_run("hog")["reason"].clone();
    let reason = reason.as_str().expect("a reason");
    assert!(
        reason.starts_with("out of memory: the limit is the task's"),
        "{reason}"
    );
    // The same without the flag: a reservation, and nothing more.
    let trial = Trial::new();
    assert_eq!(trial.run(&task, &[]), 0);
    assert_eq!(trial.status()["cgroups"], Value::Null);
}

#[test]
fn enforced_weights_and_other_limits_are_in_their_files() {
    let trial = Trial::new();
    let more = if is_v2() {
        ", ram_high: 48MiB, swap: 0"
    } else {
        ", swap: 1MiB"
    };
    let task = format!(
        "processes:\n  - name: main\n    resources: {{cpu_weight: 200, ram: 64MiB, nice: 5, oom_score_adj: 300, rlimits: {{nofile: 77, core: {{soft: 0, hard: 1MiB}}}}{more}}}\n    cmdline: |
      ulimit -n > nofile; ulimit -Sc > core; cat /proc/self/oom_score_adj > adj
      ps -o ni= -p $$ > nice 2>/dev/null || nice > nice; cat /proc/self/stat > stat
      while [ ! -e go ]; do sleep 0.05; done\n"
    );
    trial.start(&task, &[]);
    let sandbox = trial.bench.sandbox(&trial.id);
    let read = |name: &str| {
        fs::read_to_string(sandbox.join(name))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    wait_for("the files", || (!read("stat").is_empty()).then_some(()));
    assert_eq!(
        (read("nofile"), read("core"), read("adj")),
        ("77".into(), "0".into(), "300".into())
    );
    // Field 19 of /proc/PID/stat.
    let stat = read("stat");
    let (_, rest) = stat.rsplit_once(") ").expect("stat");
    assert_eq!(rest.split(' ').nth(16), Some("5"));
    let status = trial.status();
    let groups: Vec<String> = status["cgroups"]
        .as_array()
        .expect("groups")
        .iter()
        .filter_map(|group| Some(format!("{}/main.0", group.as_str()?)))
        .collect();
    let value = |file: &str| {
        let mut found = groups
            .iter()
            .filter_map(|group| fs::read_to_string(format!("{group}/{file}")).ok());
        found.next().map(|text| text.trim().to_owned())
    };
    match is_v2() {
        true => {
            assert_eq!(value("cpu.weight").as_deref(), Some("200"));
            assert_eq!(value("memory.high").as_deref(), Some("50331648"));
            assert_eq!(value("memory.swap.max").as_deref(), Some("0"));
        }
        false => {
            assert_eq!(value("cpu.shares").as_deref(), Some("2048"));
            // Memory and swap together.
            let both = value("memory.memsw.limit_in_bytes");
            assert_eq!(both, Some((65u64 << 20).to_string()));
        }
    }
    let usage = &process_of(&status, "main")["runs"][0]["usage"];
    assert!(
        usage["memory"].as_u64() > Some(0) && usage["pids"].as_u64() >= Some(1),
        "{usage:#}"
    );
    fs::write(sandbox.join("go"), "").expect("go");
    assert_eq!(code(&trial.bench.run(&["wait", &trial.id])), 0);
    trial.leaves_nothing();
}

#[test]
fn enforced_limits_survive_the_death_of_any_of_ours() {
    for role in ["keeper_pid", "runner_pid", "both"] {
        let trial = Trial::new();
        let task = "max_failures: 3\nprocesses:\n  - name: late\n    resources: {ram: 32MiB, pids: 10}\n    min_duration: 0\n    max_failures: 2\n    cmdline: |
      while [ ! -e go ]; do sleep 0.02; done
      exec dd if=/dev/zero of=/dev/null bs=200M count=1\n";
        trial.start(task, &[]);
        let status = wait_for("it runs", || {
            Some(trial.status()).filter(|status| process_of(status, "late")["state"] == "RUNNING")
        });
        let pid = |who: &str| status[who].as_u64().expect("a pid");
        match role {
            "both" => kill_at_once(&[pid("root_pid"), pid("keeper_pid")]),
            one => kill_at_once(&[pid(one)]),
        }
        let attached = trial
            .bench
            .dewar(&["attach", &trial.id])
            .spawn()
            .expect("attach");
        fs::write(trial.bench.sandbox(&trial.id).join("go"), "").expect("go");
        assert_eq!(code(&finish(attached)), 0, "{role}");
        let process = trial.process("late");
        let runs = process["runs"].as_array().expect("runs");
        let failed: Vec<&Value> = runs.iter().filter(|run| run["state"] == "FAILED").collect();
        assert_eq!(failed.len(), 2, "{role}: {runs:#?}");
        for run in failed {
            let reason = run["reason"].as_str().unwrap_or_default();
            assert!(
                reason.starts_with("out of memory: limit 32 MiB"),
                "{role}: {run:#}"
            );
        }
        wait_for("the groups' end", || {
            trial.groups().is_empty().then_some(())
        });
        trial.leaves_nothing();
    }
}

/// Memory is blamed for an end that it caused, and for no other.
#[test]
fn enforced_memory_is_not_blamed_for_what_others_did() {
    let hog = "dd if=/dev/zero of=/dev/null bs=200M count=1";
    let task = format!(
        "max_failures: 0
processes:
  - {{name: killed, min_duration: 0, resources: {{ram: 32MiB}}, cmdline: 'if [ -e k ]; then exit 0; fi; touch k; {hog}; sleep 2; kill -9 $$'}}
  - {{name: late, resources: {{ram: 32MiB}}, cmdline: '{hog}; sleep 2; exit 3'}}
  - {{name: child, resources: {{ram: 32MiB}}, cmdline: '{hog}; exit 9'}}
  - {{name: timed, resources: {{ram: 32MiB}}, timeout: 2s, cmdline: '{hog}; sleep 1000'}}
"
    );
    let trial = Trial::new();
    assert_eq!(trial.run(&task, &[]), 0);
    let killed = trial.process("killed");
    assert_eq!(killed["runs"][0]["state"], "KILLED", "{killed:#}");
    assert_eq!(killed["runs"][1]["state"], "SUCCESS");
    let reason = |name: &str| trial.last_run(name)["reason"].clone();
    assert_eq!(reason("late"), Value::Null);
    assert_eq!(reason("timed"), "timed out after 2s");
    let child = reason("child");
    assert!(
        child
            .as_str()
            .unwrap_or_default()
            .starts_with("out of memory"),
        "{child}"
    );
    assert_eq!(trial.last_run("child")["exit_code"], 9);
}

#[test]
fn what_cannot_be_enforced_is_refused_or_told() {
    let trial = Trial::new();
    // No machine has a disk scheduler that knows weights by accident; v1 has no `ram_high`.
    let what = if is_v2() {
        "io_weight: 7"
    } else {
        "ram_high: 32MiB"
    };
    let name = what.split(':').next().expect("a name");
    let task =
        "processes:\n  - {name: main, cmdline: 'true', resources: {ram: 64MiB, WHAT BEST}}\n";
    let task = task.replace("WHAT", what);
    let file = trial.bench.file("task.yaml", &task.replace(" BEST", ""));
    let output = trial
        .bench
        .run(&["run", &file.display().to_string(), "--id", &trial.id]);
    assert_eq!(code(&output), 2);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(&format!("process \"main\": `{name}` cannot be enforced: ")),
        "{said}"
    );
    assert!(trial.bench.task(&trial.id).is_none(), "nothing began");
    assert_eq!(
        trial.run(&task.replace(" BEST", ", best_effort: true"), &[]),
        0
    );
    let notices = trial.status()["notices"].to_string();
    assert!(
        notices.contains(&format!("not enforced: `{name}` cannot be enforced")),
        "{notices}"
    );
}
