//! Limits that the kernel enforces. They need root and cgroups; on a machine with cgroup v1 the same tests run on v2
//! in a small virtual machine (`vm.rs`), so nothing here is left out where something is missing.
//!
//! In every test an innocent sibling runs beside the culprit: it must not notice anything.

use std::{
    fs::{self, File},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

use crate::{
    support::systemd::Systemd,
    support::{Bench, Known, code, finish, wait_for},
};

/// A sibling that has limits of its own, does a little of everything, and ends well.
const INNOCENT: &str = r#"
  - name: innocent
    resources: {ram: 64MiB, cpu: 2, pids: 32}
    cmdline: |
      for i in 1 2 3 4 5 6 7 8; do
        head -c 1000000 /dev/zero > file.$i; (sleep 0.05; true) & sleep 0.05
      done
      wait
"#;

/// A task that no other test has, and what of it must not be left.
struct Trial {
    bench: Bench,
    id: String,
}

impl Trial {
    fn new() -> Trial {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Trial {
            bench: Bench::new(),
            id: format!("limits-{}-{number}", std::process::id()),
        }
    }

    fn start(&self, task: &str, flags: &[&str]) {
        let file = self.bench.file("task.yaml", task).display().to_string();
        let mut arguments = vec!["run", &file, "--id", &self.id, "--detach"];
        arguments.extend(flags);
        let output = self.bench.run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(&output), 0, "{said}");
    }

    /// Runs it to its end; returns the code of that.
    fn run(&self, task: &str, flags: &[&str]) -> i32 {
        self.start(task, flags);
        let code = code(&self.bench.run(&["wait", &self.id]));
        // A `wait` that comes last reads of the end, which is on disk a moment before the groups go.
        wait_for("the groups' end", || self.groups().is_empty().then_some(()));
        self.leaves_nothing();
        code
    }

    fn status(&self) -> Value {
        self.bench.task(&self.id).expect("the task")
    }

    fn process(&self, name: &str) -> Value {
        process_of(&self.status(), name)
    }

    fn last_run(&self, name: &str) -> Value {
        let process = self.process(name);
        let runs = process["runs"].as_array().expect("runs");
        runs.last().expect("a run").clone()
    }

    /// The cgroups of the task that there are.
    fn groups(&self) -> Vec<String> {
        let name = format!("dewar.{}", self.id);
        groups_called(Path::new("/sys/fs/cgroup"), &name, 6)
    }

    /// No cgroup, mount or process of the task.
    fn leaves_nothing(&self) {
        let groups = self.groups();
        assert!(groups.is_empty(), "{groups:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let path = self.bench.path().display().to_string();
        assert!(!mounts.contains(&path), "{mounts}");
        let status = self.status();
        for process in status["processes"].as_array().expect("processes") {
            for run in process["runs"].as_array().expect("runs") {
                let pid = run["pid"].as_u64().unwrap_or_default();
                let home = format!("HOME={}", status["sandbox"].as_str().unwrap_or_default());
                let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                let is_it = environment
                    .split(|byte| *byte == 0)
                    .any(|one| one == home.as_bytes());
                assert!(!is_it, "pid {pid} lives");
            }
        }
    }

    /// The innocent sibling has noticed nothing.
    fn spared(&self) {
        let run = self.last_run("innocent");
        assert_eq!(run["state"], "SUCCESS", "{run:#}");
        let usage = &run["usage"];
        assert_eq!(usage["oom_kills"], 0, "{usage:#}");
        assert_eq!(usage["pids_refused"], 0, "{usage:#}");
        assert_eq!(usage["throttled_seconds"], 0.0, "{usage:#}");
    }
}

fn process_of(status: &Value, name: &str) -> Value {
    let processes = status["processes"].as_array().expect("processes");
    let process = processes.iter().find(|process| process["name"] == name);
    process.expect("the process").clone()
}

/// The groups whose names begin so.
fn groups_called(top: &Path, name: &str, depth: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(name) {
            found.push(path.display().to_string());
        }
        if depth > 0 {
            found.extend(groups_called(&path, name, depth - 1));
        }
    }
    found
}

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

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
        "max_failures: 2\nprocesses:\n  - name: bomb\n    resources: {{pids: 20}}\n    timeout: 2s\n    cmdline: 'b() {{ b & b & sleep 60; }}; b 2>/dev/null'{INNOCENT}"
    );
    assert_eq!(trial.run(&task, &[]), 0);
    let run = trial.last_run("bomb");
    assert_eq!(run["reason"], "timed out after 2s");
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
    let pids = wait_for("everybody", || {
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
    assert!((0.135..=0.165).contains(&share), "{share} of 0.15: {run:#}");
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
        notices.contains("the sandbox may take 4 MiB; it is looked at every 2s"),
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
            "both" => crate::support::kill_at_once(&[pid("root_pid"), pid("keeper_pid")]),
            one => crate::support::kill_at_once(&[pid(one)]),
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

/// Lets a program begin in a group of cgroup v2, as somebody.
pub fn put(command: &mut Command, group: &Path, uid: u32) {
    let door = File::options()
        .write(true)
        .open(group.join("cgroup.procs"))
        .expect("a door");
    // SAFETY: async-signal-safe calls between fork and exec: one write, then other ids.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::write(&door, b"0")?;
            nix::unistd::setgroups(&[])?;
            nix::unistd::setresgid(uid.into(), uid.into(), uid.into())?;
            nix::unistd::setresuid(uid.into(), uid.into(), uid.into())?;
            Ok(())
        });
    }
}

/// A group of cgroup v2 that is nobody else's; removed with all that is in it.
struct Box2(PathBuf);

impl Box2 {
    fn new(trial: &Trial) -> Box2 {
        let path = Path::new("/sys/fs/cgroup").join(format!("box-{}", trial.id));
        let parent = Path::new("/sys/fs/cgroup/cgroup.subtree_control");
        fs::write(parent, "+cpu +memory +pids").expect("root, and cgroup v2");
        fs::create_dir(&path).expect("a group");
        Box2(path)
    }

    /// One inside, as a shell of the person has whose systemd the box is given to.
    fn shell(&self) -> Box2 {
        let path = self.0.join("shell");
        fs::create_dir(&path).expect("a group");
        Box2(path)
    }

    /// Runs dewar in the box, with a neighbour there or not, as root or as somebody else.
    fn run(&self, trial: &Trial, task: &str, neighbour: bool, uid: u32) -> Output {
        self.run_with(trial, task, neighbour, uid, &[])
    }

    fn run_with(
        &self,
        trial: &Trial,
        task: &str,
        neighbour: bool,
        uid: u32,
        environment: &[(&str, &str)],
    ) -> Output {
        let file = trial.bench.file("task.yaml", task).display().to_string();
        let arguments = ["run", &file, "--id", &trial.id];
        self.dewar(trial, &arguments, neighbour, uid, environment)
    }

    fn dewar(
        &self,
        trial: &Trial,
        arguments: &[&str],
        neighbour: bool,
        uid: u32,
        environment: &[(&str, &str)],
    ) -> Output {
        let mut command = Command::new("bash");
        command.envs(environment.iter().copied());
        let script = match neighbour {
            true => "sleep 1000 & \"$@\"; code=$?; kill %1; exit $code",
            false => "exec \"$@\"",
        };
        let root = trial.bench.root().display().to_string();
        command.args([
            "-c",
            script,
            "bash",
            env!("CARGO_BIN_EXE_dewar"),
            "--root",
            &root,
        ]);
        command.args(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        put(&mut command, &self.0, uid);
        finish(command.spawn().expect("bash"))
    }

    /// The task, for a person: root's answers are of root's tasks.
    fn status(&self, trial: &Trial, uid: u32) -> Value {
        let arguments = ["status", &trial.id, "--format", "json"];
        let output = self.dewar(trial, &arguments, false, uid, &[]);
        let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        status["tasks"][0].clone()
    }

    fn is_empty(&self) -> bool {
        let entries = fs::read_dir(&self.0).expect("the box").flatten();
        !entries
            .into_iter()
            .any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    }
}

impl Drop for Box2 {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // Its last process may be a moment behind.
            wait_for("the box's end", || fs::remove_dir(&self.0).ok());
        }
    }
}

const NOBODY: u32 = 65534;
const HOG: &str = "processes: [{name: hog, resources: {ram: 32MiB}, argv: [dd, if=/dev/zero, of=/dev/null, bs=200M, count=1]}]";

#[test]
#[ignore = "cgroup v2 only: runs in the virtual machine"]
fn enforced_in_a_group_of_our_own_that_is_left_as_it_was() {
    let trial = Trial::new();
    let inside = Box2::new(&trial);
    let output = inside.run(&trial, HOG, false, 0);
    assert_eq!(
        code(&output),
        1,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let status = trial.status();
    let group = status["cgroups"][0].as_str().expect("a group").to_owned();
    assert!(
        group.starts_with(&inside.0.display().to_string()),
        "{group}"
    );
    assert!(trial.last_run("hog")["usage"]["oom_kills"].as_u64() >= Some(1));
    wait_for("the box to be empty", || inside.is_empty().then_some(()));
    let control = fs::read_to_string(inside.0.join("cgroup.subtree_control")).expect("control");
    assert_eq!(control.trim(), "");
}

#[test]
#[ignore = "cgroup v2 only: runs in the virtual machine"]
fn enforced_never_by_moving_somebody_else() {
    let trial = Trial::new();
    let inside = Box2::new(&trial);
    let output = inside.run(&trial, HOG, true, 0);
    assert_eq!(code(&output), 2);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("process(es) of others in it, which must not be moved"),
        "{said}"
    );
    assert!(inside.is_empty());
}

/// The scope of systemd's in which the task's group is.
fn scope_of(status: &Value) -> PathBuf {
    let group = Path::new(status["cgroups"][0].as_str().expect("a group"));
    let scope = group.ancestors().find(|one| {
        let name = one.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("dewar-limits-") && name.ends_with(".scope")
    });
    scope.expect("a scope").to_path_buf()
}

#[test]
#[ignore = "cgroup v2 only: runs in the virtual machine"]
fn enforced_in_a_scope_that_systemd_is_asked_for() {
    let trial = Trial::new();
    let inside = Box2::new(&trial);
    fs::set_permissions(trial.bench.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
    let systemd = Systemd::start(trial.bench.path(), &inside.0, NOBODY);
    let shell = inside.shell();
    // A neighbour is in the way, as a shell is.
    let output = shell.run_with(
        &trial,
        HOG,
        true,
        NOBODY,
        &[("XDG_RUNTIME_DIR", &systemd.runtime())],
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), 1, "{said}");
    assert!(said.contains("out of memory: limit 32 MiB"), "{said}");
    let scope = scope_of(&shell.status(&trial, NOBODY));
    wait_for("the scope's end", || (!scope.exists()).then_some(()));
}

/// Whoever takes a task up gets a scope too: that of the dead ended with them.
#[test]
#[ignore = "cgroup v2 only: runs in the virtual machine"]
fn enforced_in_another_scope_after_everybody_died() {
    let trial = Trial::new();
    let inside = Box2::new(&trial);
    fs::set_permissions(trial.bench.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
    let systemd = Systemd::start(trial.bench.path(), &inside.0, NOBODY);
    let shell = inside.shell();
    let runtime = systemd.runtime();
    let environment = [("XDG_RUNTIME_DIR", runtime.as_str())];
    let task = "processes:
  - name: hog
    resources: {ram: 32MiB}
    cmdline: 'if [ ! -e go ]; then exec sleep 1000; fi; exec dd if=/dev/zero of=/dev/null bs=200M count=1'
";
    let file = trial.bench.file("task.yaml", task).display().to_string();
    let run = ["run", &file, "--id", &trial.id, "--detach"];
    let output = shell.dewar(&trial, &run, true, NOBODY, &environment);
    assert_eq!(
        code(&output),
        0,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let status = wait_for("it runs", || {
        let status = shell.status(&trial, NOBODY);
        (process_of(&status, "hog")["state"] == "RUNNING").then_some(status)
    });
    let first = scope_of(&status);
    crate::support::kill_at_once(&[
        status["root_pid"].as_u64().expect("a pid"),
        status["keeper_pid"].as_u64().expect("a pid"),
        process_of(&status, "hog")["runs"][0]["pid"]
            .as_u64()
            .expect("a pid"),
    ]);
    wait_for("the scope's end", || (!first.exists()).then_some(()));
    fs::write(trial.bench.sandbox(&trial.id).join("go"), "").expect("go");
    let attach = ["attach", &trial.id];
    let output = shell.dewar(&trial, &attach, true, NOBODY, &environment);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), 1, "{said}");
    assert!(said.contains("out of memory: limit 32 MiB"), "{said}");
    let second = scope_of(&shell.status(&trial, NOBODY));
    assert_ne!(first, second);
    wait_for("the scope's end", || (!second.exists()).then_some(()));
}

/// There is a systemd by the looks of it, and it has no bus.
#[test]
#[ignore = "cgroup v2 only: runs in the virtual machine"]
fn enforced_or_refused_in_the_words_of_systemd() {
    let trial = Trial::new();
    let inside = Box2::new(&trial);
    fs::create_dir_all("/run/systemd").expect("a machine of our own");
    let output = inside.run(&trial, HOG, true, 0);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code(&output), 2, "{said}");
    assert!(
        said.contains("systemd gives no scope: Failed to "),
        "{said}"
    );
    assert!(inside.is_empty());
}

/// Removes a group and all below it, as soon as nobody is in them.
pub fn remove_groups(group: &Path) {
    wait_for("the group's end", || {
        for entry in fs::read_dir(group).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_groups(&entry.path());
            }
        }
        match fs::remove_dir(group) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => None,
            _ => Some(()),
        }
    });
}

#[test]
#[ignore = "cgroup v2 only: runs in the virtual machine"]
fn enforced_without_root_in_a_group_that_was_delegated() {
    let trial = Trial::new();
    let inside = Box2::new(&trial);
    for name in [
        "",
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.subtree_control",
    ] {
        chown(inside.0.join(name), Some(NOBODY), Some(NOBODY)).expect("chown");
    }
    fs::set_permissions(trial.bench.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
    let output = inside.run(&trial, HOG, false, NOBODY);
    assert_eq!(
        code(&output),
        1,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("out of memory: limit 32 MiB"), "{said}");
    wait_for("the box to be empty", || inside.is_empty().then_some(()));
}

/// What a task of the same name left behind is not this one's, and the other way round.
#[test]
fn enforced_for_namesakes_without_a_mix_up() {
    let first = Trial::new();
    let second = Trial {
        bench: Bench::new(),
        id: first.id.clone(),
    };
    let task =
        "processes: [{name: a, min_duration: 0, resources: {pids: 9}, cmdline: 'sleep 1000'}]";
    first.start(task, &[]);
    let status = wait_for("it runs", || {
        let status = first.status();
        (process_of(&status, "a")["state"] == "RUNNING").then_some(status)
    });
    // Root, keeper and run die together: nobody looks after the group any more.
    let run = process_of(&status, "a")["runs"][0]["pid"].as_u64();
    let all = [
        status["root_pid"].as_u64(),
        status["keeper_pid"].as_u64(),
        run,
    ];
    crate::support::kill_at_once(&all.map(|pid| pid.expect("a pid")));
    let group = status["cgroups"][0].as_str().expect("a group").to_owned();
    wait_for("the group to be empty", || {
        let procs = fs::read_to_string(format!("{group}/a.0/cgroup.procs")).ok()?;
        procs.is_empty().then_some(())
    });
    second.start(task, &[]);
    let pid = wait_for("the other", || second.last_run("a")["pid"].as_u64());
    let other = Known::new(&pid.to_string());
    assert_eq!(code(&first.bench.run(&["kill", &first.id, "--now"])), 0);
    assert!(other.lives(), "it was somebody else's");
    assert_eq!(second.last_run("a")["run"], 0);
    assert_eq!(code(&second.bench.run(&["kill", &second.id, "--now"])), 0);
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
