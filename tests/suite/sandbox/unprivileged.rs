//! Without root: what a user namespace and the kernel's own limits give is enforced, everything
//! else refused or told, as the task asks. Started by root (CI is), run as uid 65534, who owns
//! nothing.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::support::{Bench, code, finish, wait_for};

const NOBODY: u32 = 65534;

struct Home {
    bench: Bench,
    program: PathBuf,
    root: PathBuf,
}

impl Home {
    fn new() -> Home {
        let bench = Bench::new();
        fs::set_permissions(bench.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let program = bench.path().join("dewar");
        fs::copy(env!("CARGO_BIN_EXE_dewar"), &program).expect("copy");
        let root = bench.path().join("nobodys");
        fs::create_dir(&root).expect("mkdir");
        std::os::unix::fs::chown(&root, Some(NOBODY), Some(NOBODY)).expect("needs root");
        Home {
            bench,
            program,
            root,
        }
    }

    fn dewar(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command
            .arg("--root")
            .arg(&self.root)
            .args(arguments)
            .current_dir("/")
            .uid(NOBODY)
            .gid(NOBODY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Another test that forks just now may have our copy's file open for writing for a moment.
        let child = wait_for("the program to be ours alone", || match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => None,
            spawned => Some(spawned.expect("dewar starts")),
        });
        finish(child)
    }

    /// Runs a task; its code, what dewar said, and its status.
    fn run(&self, id: &str, task: &str) -> (i32, String, Value) {
        let file = self
            .bench
            .file(&format!("{id}.yaml"), task)
            .display()
            .to_string();
        let output = self.dewar(&["run", &file, "--id", id]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let status = self.dewar(&["status", id, "--format", "json"]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        (code(&output), said, status["tasks"][0].clone())
    }
}

#[test]
fn a_private_task_is_private_without_root() {
    let home = Home::new();
    home.bench.file("secret", "secret");
    let outside = home.bench.path().display();
    // The test itself: no task may look into it.
    let (foreign, foreign_name) = (std::process::id(), "suite");
    let task = format!(
        "isolation: private
max_failures: 0
processes:
  - {{name: works, cmdline: '[ \"$(id -u)\" = 65534 ] && touch file /tmp/t && echo hi > /dev/null'}}
  - {{name: reads, cmdline: cat {outside}/secret}}
  - {{name: writes, cmdline: touch /etc/x /usr/x /var/x}}
  - {{name: sees, cmdline: 'tr \"\\0\" \" \" < /proc/{foreign}/cmdline | grep -q {foreign_name}'}}
  - {{name: mounts, cmdline: mount -t tmpfs x /mnt || unshare -Um true}}
  - {{name: becomes, cmdline: '[ \"$(grep CapEff /proc/self/status | cut -f 2)\" != 0000000000000000 ]'}}
"
    );
    let (code, said, status) = home.run("private", &task);
    assert_eq!(code, 0, "{said}");
    for process in status["processes"].as_array().expect("processes") {
        let expected = if process["name"] == "works" {
            "SUCCESS"
        } else {
            "FAILED"
        };
        assert_eq!(process["state"], expected, "{process:#}");
        assert!(process["runs"][0]["started_at"].is_string(), "{process:#}");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!mounts.contains(&outside.to_string()));
}

#[test]
fn limits_of_the_kernels_own_kind_are_enforced() {
    let home = Home::new();
    let task = "max_failures: 0
processes:
  - {name: files, resources: {rlimits: {nofile: 20}}, cmdline: '[ $(ulimit -n) = 20 ]'}
  - {name: large, resources: {rlimits: {fsize: 1MiB}}, argv: [dd, if=/dev/zero, of=big, bs=1M, count=4]}
  - {name: polite, resources: {nice: 7, oom_score_adj: 500}, cmdline: '[ $(cat /proc/self/oom_score_adj) = 500 ]'}
";
    let (code, said, status) = home.run("limits", task);
    assert_eq!(code, 0, "{said}");
    let states: Vec<&Value> = (0..3).map(|at| &status["processes"][at]["state"]).collect();
    assert_eq!(states, ["SUCCESS", "FAILED", "SUCCESS"]);
    assert_eq!(status["processes"][1]["runs"][0]["signal"], "SIGXFSZ");
}

#[test]
fn what_only_root_may_is_refused_or_told() {
    let home = Home::new();
    let task = "processes:\n  - {name: a, cmdline: 'true', resources: {ram: 64MiB, nice: -5, rlimits: {nofile: {soft: 10, hard: unlimited}} BEST}}\n";
    let (code, said, status) = home.run("refused", &task.replace(" BEST", ""));
    assert_eq!(code, 2, "{said}");
    for what in [
        "`ram` cannot be enforced",
        "`nice` cannot be set: at least 0",
        "`rlimits.nofile` cannot be set",
    ] {
        assert!(said.contains(what), "{what}: {said}");
    }
    assert!(said.contains("dewar doctor"), "{said}");
    assert_eq!(status, Value::Null, "nothing began");
    let best = task.replace(" BEST", ", best_effort: true");
    let (code, said, status) = home.run("best", &best);
    assert_eq!(code, 0, "{said}");
    let notices = status["notices"].to_string();
    assert!(notices.contains("not enforced: "), "{notices}");
    assert!(
        notices.contains("`nice`") && notices.contains("`rlimits.nofile`"),
        "{notices}"
    );
}

#[test]
fn the_doctor_says_what_is_missing_and_how_to_get_it() {
    let home = Home::new();
    let output = home.dewar(&["doctor", "--format", "json"]);
    assert_eq!(code(&output), 0);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["uid"], NOBODY);
    let find = |list: &str, what: &str| {
        let rows = report[list].as_array().expect("rows");
        rows.iter()
            .find(|row| row["what"] == what)
            .expect("a row")
            .clone()
    };
    assert_eq!(find("limits", "ram")["available"], false);
    assert_eq!(find("limits", "rlimits")["available"], true);
    assert_eq!(find("isolation", "private")["available"], true);
    assert_eq!(find("processes", "of a run")["available"], false);
    assert!(!report["hints"].as_array().expect("hints").is_empty());
    // Root has more, and is told so.
    let output = home.bench.run(&["doctor"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("ram "))
        .expect("a line");
    assert!(line.contains(" yes  cgroup v"), "{line}");
    assert!(text.contains(" yes  a cgroup for every run"), "{text}");
}
