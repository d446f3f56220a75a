//! One tree, one run, against programs that hide from it: processes without their first thread,
//! processes that left a part of their cgroups, and processes that
//! are in them and not below the keeper.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Bench, Known,
    cgroups::{put, remove_groups},
    code, finish, kill_at_once, living_in, signal, wait_for,
};

use super::one_tree::{Shown, compiled, lines, newest};

/// True while a thread of this process lives; its first one may be dead.
fn has_threads(pid: &str) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    let states = threads.flatten().flatten().map(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let after = stat.rsplit(") ").next().unwrap_or_default().to_owned();
        after.chars().next().unwrap_or('X')
    });
    states.into_iter().any(|state| !matches!(state, 'Z' | 'X'))
}

fn a_headless_process_is_ended(shown: Shown, verb: &[&str]) {
    let bench = Bench::new();
    let program = compiled(&bench, "headless");
    let task = format!("finalization_wait: 2s\nprocesses: [{{name: a, argv: [{program:?}]}}]");
    shown.detach(&bench, &task);
    let pid = newest(&bench, "pids", 1).pid;
    assert!(has_threads(&pid));
    assert_eq!(code(&shown.dewar(&bench, verb)), 0);
    assert!(!has_threads(&pid), "{shown:?} {verb:?}");
    let task = bench.task("t").expect("the task");
    let signal = match verb {
        [.., "--now"] => "SIGKILL",
        _ => "SIGTERM",
    };
    let run = &task["processes"][0]["runs"][0];
    assert_eq!(run["signal"], signal, "{shown:?} {verb:?} {run}");
}

#[test]
fn a_process_whose_first_thread_has_ended_is_stopped() {
    for shown in [Shown::All, Shown::V1, Shown::Nothing] {
        a_headless_process_is_ended(shown, &["kill", "t"]);
    }
}

#[test]
fn a_process_whose_first_thread_has_ended_is_killed() {
    for shown in [Shown::All, Shown::V1, Shown::Nothing] {
        a_headless_process_is_ended(shown, &["kill", "t", "--now"]);
    }
}

/// A daemon whose every run leaves something behind, which writes its pid into `pids`.
fn leaves(what: &str, more: &str) -> String {
    format!(
        "processes:
  - name: leaver
    daemon: true
    max_failures: 0
    min_duration: 50ms
    {more}
    cmdline: |
      echo run >> runs
      setsid {what} </dev/null >/dev/null 2>&1 &
      while [ $(cat pids 2>/dev/null | wc -l) -lt $(wc -l < runs) ]; do sleep 0.02; done
"
    )
}

#[test]
fn one_tree_of_a_leaver_whose_first_thread_has_ended() {
    for shown in [Shown::All, Shown::V1, Shown::Nothing] {
        let bench = Bench::new();
        let program = compiled(&bench, "headless");
        shown.detach(&bench, &leaves(&program, ""));
        newest(&bench, "pids", 3);
        let living = lines(&bench, "pids");
        let living = living.iter().filter(|pid| has_threads(pid)).count();
        assert!(living <= 1, "{living} with {shown:?}");
        assert_eq!(code(&shown.dewar(&bench, &["kill", "t", "--now"])), 0);
        assert!(!lines(&bench, "pids").iter().any(|pid| has_threads(pid)));
    }
}

#[test]
fn one_tree_of_a_limited_leaver_that_left_one_hierarchy() {
    let bench = Bench::new();
    let program = bench.file(
        "leave.sh",
        "echo $$ > /sys/fs/cgroup/unified/cgroup.procs 2>/dev/null
         echo $$ >> pids
         exec sleep 1000",
    );
    let what = format!("sh {}", program.display());
    Shown::All.detach(&bench, &leaves(&what, "resources: {pids: 50}"));
    let first = newest(&bench, "pids", 1);
    let others: Vec<Known> = (2..5).map(|count| newest(&bench, "pids", count)).collect();
    assert!(!first.lives());
    let living = others.iter().filter(|known| known.lives()).count();
    assert!(living <= 1, "{living}");
    assert_eq!(code(&Shown::All.dewar(&bench, &["kill", "t"])), 0);
    assert_eq!(living_in(&bench.sandbox("t")), [] as [u64; 0]);
}

/// A process that no signal ends until it is thawed, in the freezer of cgroup v1.
struct Frozen {
    child: Child,
    group: PathBuf,
}

impl Frozen {
    /// One that is put into the group of the process `pid` in the hierarchy of `pids`; `None` where
    /// there is no freezer.
    fn beside(pid: &str) -> Option<Frozen> {
        let child = Command::new("sleep").arg("4401").spawn().expect("sleep");
        let freezer = Path::new("/sys/fs/cgroup/freezer");
        let group = freezer.join(format!("dewar-test-{}", child.id()));
        let frozen = Frozen { child, group };
        if !freezer.join("cgroup.procs").exists() {
            return None;
        }
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("groups");
        let beside = groups.lines().find_map(|line| line.split_once(":pids:"));
        let beside = format!("/sys/fs/cgroup/pids{}", beside.expect("pids").1);
        fs::create_dir(&frozen.group).expect("mkdir");
        for group in [Path::new(&beside), &frozen.group] {
            let number = frozen.child.id().to_string();
            fs::write(group.join("cgroup.procs"), number).expect("a move");
        }
        fs::write(frozen.group.join("freezer.state"), "FROZEN").expect("freeze");
        Some(frozen)
    }

    fn thaw(&mut self) {
        fs::write(self.group.join("freezer.state"), "THAWED").expect("thaw");
        self.child.wait().expect("its end");
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = fs::write(self.group.join("freezer.state"), "THAWED");
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir(&self.group);
    }
}

#[test]
fn what_was_put_into_a_task_is_waited_for_and_no_longer() {
    let bench = Bench::new();
    let task = "processes: [{name: a, cmdline: 'echo $$ > pids; exec sleep 1000'}]";
    Shown::V1.detach(&bench, task);
    let pid = newest(&bench, "pids", 1);
    let Some(mut frozen) = Frozen::beside(&pid.pid) else {
        return;
    };
    let killing = bench.dewar(&["kill", "t", "--now"]).spawn().expect("dewar");
    wait_for("the end of the run", || {
        let task = bench.task("t")?;
        (task["processes"][0]["runs"][0]["state"] == "KILLED").then_some(())
    });
    // No process of ours is left, so nothing but the end of this one wakes the keeper.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(bench.task("t").expect("the task")["state"], "CLEANING");
    frozen.thaw();
    assert_eq!(code(&finish(killing)), 0);
}

#[test]
fn a_gate_waits_for_what_was_put_into_a_run_and_no_longer() {
    let bench = Bench::new();
    let task = "processes:
  - name: a
    daemon: true
    min_duration: 0
    max_failures: 0
    cmdline: 'echo $$ >> pids; exec sleep 1000'
";
    Shown::V1.detach(&bench, task);
    let pid = newest(&bench, "pids", 1);
    let Some(mut frozen) = Frozen::beside(&pid.pid) else {
        return;
    };
    signal(pid.pid.parse().expect("a pid"), Signal::SIGKILL);
    wait_for("the second run at its gate", || {
        let task = bench.task("t")?;
        (task["processes"][0]["runs"][1]["state"] == "FORKED").then_some(())
    });
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(lines(&bench, "pids").len(), 1);
    frozen.thaw();
    newest(&bench, "pids", 2);
    assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
}

#[test]
fn enforced_what_a_script_has_left_is_ended_with_its_keeper() {
    let bench = Bench::new();
    let task = "processes:
  - name: a
    cmdline: sleep 1000
    health:
      shell: \"setsid sh -c 'echo $$ >> pids; exec sleep 1000' </dev/null >/dev/null 2>&1 & sleep 60\"
      interval: 100ms
      timeout: 100s
";
    Shown::All.detach(&bench, task);
    let left = newest(&bench, "pids", 1);
    let keeper = bench.task("t").expect("the task")["keeper_pid"].as_u64();
    kill_at_once(&[keeper.expect("a keeper")]);
    wait_for("the end of what the script left", || {
        (!left.lives()).then_some(())
    });
    assert_eq!(code(&bench.run(&["kill", "t", "--now"])), 0);
}

/// Where groups of v2 are made.
fn v2() -> &'static Path {
    let beside = Path::new("/sys/fs/cgroup/unified");
    match beside.join("cgroup.procs").exists() {
        true => beside,
        false => Path::new("/sys/fs/cgroup"),
    }
}

/// A group of v2 with two in it that are delegated to nobody; it itself is not.
struct Delegated(PathBuf);

impl Delegated {
    fn new() -> Delegated {
        let above = v2().join(format!("dewar-test-{}", std::process::id()));
        fs::create_dir(&above).expect("mkdir");
        for name in ["a", "b"] {
            let group = above.join(name);
            fs::create_dir(&group).expect("mkdir");
            for one in [&group, &group.join("cgroup.procs")] {
                std::os::unix::fs::chown(one, Some(NOBODY), Some(NOBODY)).expect("chown");
            }
        }
        Delegated(above)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        remove_groups(&self.0);
    }
}

const NOBODY: u32 = 65534;

#[test]
fn a_task_goes_on_where_its_group_cannot_be_entered() {
    let delegated = Delegated::new();
    let bench = Bench::new();
    let open: fs::Permissions = PermissionsExt::from_mode(0o777);
    fs::set_permissions(bench.path(), open).expect("chmod");
    let program = bench.path().join("dewar");
    fs::copy(env!("CARGO_BIN_EXE_dewar"), &program).expect("copy");
    let nobodys = bench.path().join("nobodys").display().to_string();
    let dewar = |group: &str, arguments: &[&str]| {
        let mut command = Command::new(&program);
        command
            .args(["--root", &nobodys])
            .args(arguments)
            .current_dir(bench.path())
            .stdout(Stdio::piped());
        put(&mut command, &delegated.0.join(group), NOBODY);
        let child = wait_for("the program to be ours alone", || match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => None,
            spawned => Some(spawned.expect("dewar starts")),
        });
        finish(child)
    };
    let file = bench.file(
        "task.yaml",
        "processes: [{name: a, daemon: true, min_duration: 0, cmdline: 'echo $$ >> pids; sleep 1'}]",
    );
    let file = file.display().to_string();
    assert_eq!(
        code(&dewar("a", &["run", &file, "--id", "t", "--detach"])),
        0
    );
    let pids = Path::new(&nobodys).join("tasks/t/sandbox/pids");
    let runs = || fs::read_to_string(&pids).map_or(0, |text| text.lines().count());
    wait_for("the first run", || (runs() > 0).then_some(()));
    let status = dewar("a", &["status", "t", "--format", "json"]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    let ours = ["root_pid", "keeper_pid"].map(|who| status["tasks"][0][who].as_u64());
    kill_at_once(&ours.map(|pid| pid.expect("a pid")));
    let before = runs();
    let taking_up = std::thread::scope(|scope| {
        let attached = scope.spawn(|| code(&dewar("b", &["attach", "t", "--format", "plain"])));
        wait_for("three more runs", || (runs() > before + 3).then_some(()));
        assert_eq!(code(&dewar("b", &["kill", "t", "--now"])), 0);
        attached.join().expect("dewar")
    });
    assert_eq!(taking_up, 3);
}

#[test]
fn a_limited_run_begins_although_its_tasks_name_is_taken_in_one_hierarchy() {
    let own = fs::read_to_string("/proc/self/cgroup").expect("groups");
    let Some((_, own)) = own.lines().find_map(|line| line.split_once(":pids:")) else {
        return;
    };
    let id = format!("taken-{}", std::process::id());
    let taken = PathBuf::from(format!("/sys/fs/cgroup/pids{own}")).join(format!("dewar.{id}"));
    fs::create_dir(&taken).expect("mkdir");
    let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep");
    fs::write(taken.join("cgroup.procs"), child.id().to_string()).expect("a move");
    let bench = Bench::new();
    let task = "processes: [{name: a, resources: {pids: 50}, cmdline: 'cat /proc/self/cgroup'}]";
    let file = bench.file("task.yaml", task).display().to_string();
    let output = bench.run(&["run", &file, "--id", &id]);
    assert!(child.try_wait().expect("a child").is_none());
    child.kill().expect("kill");
    child.wait().expect("wait");
    remove_groups(&taken);
    assert_eq!(code(&output), 0);
    let log = bench.sandbox(&id).join(".logs/a/0/stdout");
    let groups = fs::read_to_string(log).expect("its groups");
    assert!(
        groups.contains(&format!("pids:{own}/dewar.{id}.2/a.0").replace("//", "/")),
        "{groups}"
    );
}
