//! One tree, one run: nothing of a run is alive when the next run of its process begins, and
//! nothing of a task when it is over; with cgroups of either version, and without any.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    sync::{Mutex, PoisonError},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Bench, Known, code, kill_at_once, living_in, process_of, signal, wait_for};

/// What of this machine's cgroups dewar is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// All that there is.
    All,
    /// Those of v1 alone.
    V1,
    /// None.
    Nothing,
}

impl Shown {
    /// `dewar ...` that sees no other cgroups.
    pub(super) fn dewar(self, bench: &Bench, arguments: &[&str]) -> Output {
        let hide = match self {
            Shown::All => return bench.run(arguments),
            Shown::V1 => "umount /sys/fs/cgroup/unified 2>/dev/null; ",
            Shown::Nothing => "mount -t tmpfs none /sys/fs/cgroup; ",
        };
        let plain = bench.dewar(arguments);
        let words = plain.get_args().map(std::ffi::OsStr::to_os_string);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c"])
            .arg(format!("{hide}exec \"$0\" \"$@\""))
            .arg(plain.get_program())
            .args(words)
            .current_dir(bench.path())
            .env_remove("DEWAR_ROOT");
        command.output().expect("unshare")
    }

    pub(super) fn detach(self, bench: &Bench, task: &str) {
        let file = bench.file("task.yaml", task).display().to_string();
        let output = self.dewar(bench, &["run", &file, "--id", "t", "--detach"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(&output), 0, "{said}");
    }
}

/// How many lines the processes have written to `file`.
pub(super) fn lines(bench: &Bench, file: &str) -> Vec<String> {
    let text = fs::read_to_string(bench.sandbox("t").join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A daemon whose every run leaves a process behind that has left its session. Each run says how
/// many of them it found alive when it began.
fn leaver(more: &str) -> String {
    format!(
        "processes:
  - name: leaver
    daemon: true
    max_failures: 0
    min_duration: 50ms
    {more}
    cmdline: |
      living=0
      for pid in $(cat left 2>/dev/null); do
        if kill -0 $pid 2>/dev/null; then living=$((living + 1)); fi
      done
      echo $living >> found
      setsid sh -c 'echo $$ >> left; exec sleep 1000' </dev/null >/dev/null 2>&1 &
      while ! [ -s left ] || [ $(wc -l < left) -lt $(wc -l < found) ]; do sleep 0.01; done
      exit 0
"
    )
}

fn leaves_one_tree(shown: Shown, more: &str) {
    let bench = Bench::new();
    shown.detach(&bench, &leaver(more));
    let found = wait_for("six runs", || {
        Some(lines(&bench, "found")).filter(|found| found.len() >= 6)
    });
    assert!(found.iter().all(|living| living == "0"), "{found:?}");
    assert_eq!(code(&shown.dewar(&bench, &["kill", "t"])), 0);
    assert_eq!(living_in(&bench.sandbox("t")), [] as [u64; 0]);
    let status = bench.task("t").expect("the task");
    let runs = process_of(&status, "leaver")["runs"].clone();
    let runs = runs.as_array().expect("runs");
    let ended = runs.iter().take(5).map(|run| &run["state"]);
    assert!(ended.clone().all(|state| state == "SUCCESS"), "{runs:#?}");
}

#[test]
fn enforced_one_tree_of_a_daemon_that_leaves_its_session() {
    leaves_one_tree(Shown::All, "");
}

#[test]
fn enforced_one_tree_of_a_limited_daemon() {
    leaves_one_tree(Shown::All, "resources: {pids: 50}");
}

#[test]
fn one_tree_on_cgroup_v1_alone() {
    leaves_one_tree(Shown::V1, "");
    leaves_one_tree(Shown::V1, "resources: {pids: 50}");
}

#[test]
fn one_tree_without_any_cgroup() {
    leaves_one_tree(Shown::Nothing, "");
}

#[test]
fn enforced_one_tree_of_a_private_daemon() {
    let bench = Bench::new();
    // Pids are those of its own namespace there, and all the same.
    Shown::All.detach(&bench, &format!("isolation: private\n{}", leaver("")));
    let found = wait_for("six runs", || {
        Some(lines(&bench, "found")).filter(|found| found.len() >= 6)
    });
    assert!(found.iter().all(|living| living == "0"), "{found:?}");
    assert_eq!(code(&bench.run(&["kill", "t"])), 0);
}

/// A service that starts a helper out of its session, and tells both pids.
const SERVICE: &str = "
processes:
  - name: service
    max_failures: 0
    min_duration: 0
    daemon: true
    cmdline: |
      setsid sh -c 'echo $$ >> helpers; exec sleep 1000' </dev/null >/dev/null 2>&1 &
      echo $$ >> services
      exec sleep 1000
";

/// The newest pid in a file of at least `count`.
pub(super) fn newest(bench: &Bench, file: &str, count: usize) -> Known {
    wait_for(file, || {
        let lines = lines(bench, file);
        (lines.len() >= count).then(|| Known::new(lines.last().expect("a line")))
    })
}

fn a_killed_or_restarted_service_leaves_nothing(shown: Shown) {
    let bench = Bench::new();
    shown.detach(&bench, SERVICE);
    let (service, helper) = (newest(&bench, "services", 1), newest(&bench, "helpers", 1));
    signal(service.pid.parse().expect("a pid"), Signal::SIGKILL);
    let (_, second) = (newest(&bench, "services", 2), newest(&bench, "helpers", 2));
    assert!(!helper.lives(), "of a killed run");
    assert_eq!(code(&shown.dewar(&bench, &["restart", "t", "service"])), 0);
    newest(&bench, "services", 3);
    assert!(!second.lives(), "of a run that was restarted");
    let third = newest(&bench, "helpers", 3);
    assert_eq!(code(&shown.dewar(&bench, &["kill", "t", "--now"])), 0);
    assert!(!third.lives());
}

#[test]
fn enforced_one_tree_after_a_kill_and_a_restart() {
    a_killed_or_restarted_service_leaves_nothing(Shown::All);
}

#[test]
fn one_tree_after_a_kill_and_a_restart_with_less() {
    a_killed_or_restarted_service_leaves_nothing(Shown::V1);
    a_killed_or_restarted_service_leaves_nothing(Shown::Nothing);
}

#[test]
fn enforced_one_tree_whoever_of_ours_dies() {
    let bench = Bench::new();
    Shown::All.detach(&bench, SERVICE);
    let mut helper = newest(&bench, "helpers", 1);
    newest(&bench, "services", 1);
    for (count, who) in ["keeper_pid", "runner_pid"].into_iter().enumerate() {
        let status = bench.task("t").expect("the task");
        kill_at_once(&[status[who].as_u64().expect("a pid")]);
        let service = newest(&bench, "services", count + 1);
        signal(service.pid.parse().expect("a pid"), Signal::SIGKILL);
        newest(&bench, "services", count + 2);
        assert!(!helper.lives(), "after the death of {who}");
        helper = newest(&bench, "helpers", count + 2);
    }
    assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
    assert!(!helper.lives());
}

#[test]
fn enforced_one_tree_although_the_keeper_dies_between_two_runs() {
    for dying in [&["keeper_pid"][..], &["root_pid", "keeper_pid"]] {
        let bench = Bench::new();
        let task = leaver("").replace("min_duration: 50ms", "min_duration: 3s");
        Shown::All.detach(&bench, &task);
        let left = newest(&bench, "left", 1);
        let status = wait_for("the end of the first run", || {
            bench.task("t").filter(|status| {
                let runs = &process_of(status, "leaver")["runs"];
                runs[0]["state"] == "SUCCESS" && runs[1].is_null()
            })
        });
        let pids: Vec<u64> = dying
            .iter()
            .filter_map(|who| status[*who].as_u64())
            .collect();
        kill_at_once(&pids);
        assert!(
            left.lives(),
            "its own run has ended, and no other has begun"
        );
        let attached = bench.dewar(&["attach", "t", "--format", "plain"]).spawn();
        let mut attached = attached.expect("dewar");
        newest(&bench, "left", 2);
        assert!(!left.lives(), "after the death of {dying:?}");
        assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
        attached.wait().expect("dewar");
        assert_eq!(living_in(&bench.sandbox("t")), [] as [u64; 0]);
    }
}

/// The group of v2 of a task is gone: its name in the place where this test's own process is.
fn groups_called(name: &str) -> Vec<String> {
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-name", name])
        .output()
        .expect("find");
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn enforced_groups_are_gone_with_their_task() {
    let bench = Bench::new();
    let id = format!("gone-{}", std::process::id());
    let name = format!("dewar.{id}");
    let task = "processes: [{name: a, cmdline: 'setsid sleep 1000 & sleep 0.1'}, {name: b, cmdline: 'while [ ! -e go ]; do sleep 0.02; done'}]";
    bench.detach(&id, task);
    let group = wait_for("the task's group", || groups_called(&name).pop());
    assert!(Path::new(&group).join("b.0").exists(), "{group}");
    fs::write(bench.sandbox(&id).join("go"), "").expect("write");
    assert_eq!(code(&bench.run(&["wait", &id])), 0);
    wait_for("the groups' end", || {
        groups_called(&name).is_empty().then_some(())
    });
}

/// Forks, leaves, and hides in every way that a program has, for as long as it can.
fn runaway(bench: &Bench) -> String {
    compiled(bench, "runaway")
}

/// The path of the program `name`.
pub(super) fn compiled(bench: &Bench, name: &str) -> String {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/engine");
    let source = sources.join(format!("{name}.c"));
    let program = bench.path().join(name);
    let output = Command::new("cc")
        .args(["-O1", "-pthread", "-o"])
        .args([&program, &source])
        .output()
        .expect("cc");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    program.display().to_string()
}

/// The processes that run this program.
fn running(program: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let is_it = |entry: &fs::DirEntry| {
        fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == Path::new(program))
    };
    let names = entries.filter(is_it).map(|entry| entry.file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// One storm at a time: each takes pids and processors.
static STORM: Mutex<()> = Mutex::new(());

fn a_runaway_is_gone(shown: Shown, user: &str, verb: &[&str]) {
    let _alone = STORM.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::new();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let program = runaway(&bench);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bench.path(), open).expect("chmod");
    let task = format!(
        "finalization_wait: 500ms\nprocesses: [{{name: runaway, {user}argv: [{program:?}, '40']}}]"
    );
    shown.detach(&bench, &task);
    wait_for("the chase", || (running(&program).len() > 20).then_some(()));
    assert_eq!(code(&shown.dewar(&bench, verb)), 0);
    assert_eq!(running(&program), [] as [String; 0]);
    assert_eq!(bench.task("t").expect("the task")["state"], "KILLED");
}

#[test]
fn one_tree_of_a_runaway_that_is_killed_at_once() {
    a_runaway_is_gone(Shown::All, "", &["kill", "t", "--now"]);
    a_runaway_is_gone(Shown::All, "user: nobody, ", &["kill", "t", "--now"]);
    a_runaway_is_gone(Shown::V1, "user: nobody, ", &["kill", "t", "--now"]);
}

#[test]
fn one_tree_of_a_runaway_whose_time_is_over() {
    a_runaway_is_gone(Shown::All, "user: nobody, ", &["kill", "t"]);
}

#[test]
fn one_tree_of_a_runaway_whose_root_and_keeper_died() {
    let _alone = STORM.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::new();
    let program = runaway(&bench);
    let task = format!("processes: [{{name: runaway, argv: [{program:?}, '40']}}]");
    Shown::All.detach(&bench, &task);
    wait_for("the chase", || (running(&program).len() > 20).then_some(()));
    let status: Value = bench.task("t").expect("the task");
    kill_at_once(&["root_pid", "keeper_pid"].map(|who| status[who].as_u64().expect("a pid")));
    assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
    assert_eq!(running(&program), [] as [String; 0]);
}
