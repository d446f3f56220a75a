//! A task with limits, and what of it must not be left.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

use crate::support::{Bench, code, process_of, wait_for};

/// A sibling that has limits of its own, does a little of everything, and ends well. It may use
/// more processor time than there is, so it is throttled only by mistake.
pub const INNOCENT: &str = r#"
  - name: innocent
    resources: {ram: 64MiB, cpu: 64, pids: 32}
    cmdline: |
      for i in 1 2 3 4 5 6 7 8; do
        head -c 1000000 /dev/zero > file.$i; (sleep 0.05; true) & sleep 0.05
      done
      wait
"#;

/// A task that no other test has, and what of it must not be left.
pub struct Trial {
    pub bench: Bench,
    pub id: String,
}

impl Trial {
    pub fn new() -> Trial {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Trial {
            bench: Bench::new(),
            id: format!("limits-{}-{number}", std::process::id()),
        }
    }

    pub fn start(&self, task: &str, flags: &[&str]) {
        let file = self.bench.file("task.yaml", task).display().to_string();
        let mut arguments = vec!["run", &file, "--id", &self.id, "--detach"];
        arguments.extend(flags);
        let output = self.bench.run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(&output), 0, "{said}");
    }

    /// Runs it to its end; returns the code of that.
    pub fn run(&self, task: &str, flags: &[&str]) -> i32 {
        self.start(task, flags);
        let code = code(&self.bench.run(&["wait", &self.id]));
        // A `wait` that comes last reads of the end, which is on disk a moment before the groups
        // go.
        wait_for("the groups' end", || self.groups().is_empty().then_some(()));
        self.leaves_nothing();
        code
    }

    pub fn status(&self) -> Value {
        self.bench.task(&self.id).expect("the task")
    }

    pub fn process(&self, name: &str) -> Value {
        process_of(&self.status(), name)
    }

    pub fn last_run(&self, name: &str) -> Value {
        let process = self.process(name);
        let runs = process["runs"].as_array().expect("runs");
        runs.last().expect("a run").clone()
    }

    /// The cgroups of the task that there are.
    pub fn groups(&self) -> Vec<String> {
        let name = format!("dewar.{}", self.id);
        groups_called(Path::new("/sys/fs/cgroup"), &name, 6)
    }

    /// No cgroup, mount or process of the task.
    pub fn leaves_nothing(&self) {
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
    pub fn spared(&self) {
        let run = self.last_run("innocent");
        assert_eq!(run["state"], "SUCCESS", "{run:#}");
        let usage = &run["usage"];
        assert_eq!(usage["oom_kills"], 0, "{usage:#}");
        assert_eq!(usage["pids_refused"], 0, "{usage:#}");
        assert_eq!(usage["throttled_seconds"], 0.0, "{usage:#}");
    }
}

/// The groups whose names begin so.
pub fn groups_called(top: &Path, name: &str, depth: u32) -> Vec<String> {
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

pub fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}
