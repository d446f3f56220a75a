//! Where a task's groups are made: in a group of our own, in a delegated one, in a scope of
//! systemd's. They need cgroup v2, so most of them run in the virtual machine only.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use super::trial::Trial;
use crate::support::{
    Bench, Known, cgroups::put, code, finish, kill_at_once, process_of, systemd::Systemd, wait_for,
};

/// A group of cgroup v2 that only one test uses; removed with all that is in it.
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

    /// Runs dewar in the box, with a neighbour there or not, as root or as another user.
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

/// The root that takes a task up gets a scope too: that of its predecessor ended with it.
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
    kill_at_once(&[
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
    // Root, keeper and run die together: no process looks after the group any more.
    let run = process_of(&status, "a")["runs"][0]["pid"].as_u64();
    let all = [
        status["root_pid"].as_u64(),
        status["keeper_pid"].as_u64(),
        run,
    ];
    kill_at_once(&all.map(|pid| pid.expect("a pid")));
    let group = status["cgroups"][0].as_str().expect("a group").to_owned();
    wait_for("the group to be empty", || {
        let procs = fs::read_to_string(format!("{group}/a.0/cgroup.procs")).ok()?;
        procs.is_empty().then_some(())
    });
    second.start(task, &[]);
    let pid = wait_for("the other", || second.last_run("a")["pid"].as_u64());
    let other = Known::new(&pid.to_string());
    assert_eq!(code(&first.bench.run(&["kill", &first.id, "--now"])), 0);
    assert!(other.lives(), "it was the other task's");
    assert_eq!(second.last_run("a")["run"], 0);
    assert_eq!(code(&second.bench.run(&["kill", &second.id, "--now"])), 0);
}
