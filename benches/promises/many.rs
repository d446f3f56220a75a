//! Many processes and many tasks at once, and one that is never at rest.

use std::{fs, time::Duration, time::Instant};

use serde_json::{Value, json};

use super::{Bench, median, ours, pss, quiet, row, time, wait_for};

impl Bench {
    /// From the exec of `dewar run` to the first of 500 processes, which notes when it ran; and the
    /// same of a shell's loop.
    pub fn first_of_many(&self) {
        const ROUNDS: usize = 7;
        let mark = "echo $EPOCHREALTIME >";
        let mut processes = Self::processes(500, "true");
        let first = self.path().join("first");
        processes[0]["cmdline"] = json!(format!("{mark} {}", first.display()));
        let task = self.task("first", &json!({"processes": processes}));
        let loops = format!(
            "bash -c '{mark} {}' & for i in $(seq 499); do bash -c true & done; wait",
            first.display()
        );
        let (mut own, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mut command = self.dewar();
            own.push(until_mark(command.arg("run").arg(&task), &first));
            let mut command = std::process::Command::new("bash");
            theirs.push(until_mark(command.args(["-c", &loops]), &first));
        }
        let floor = Some(("the shell loop", median(theirs)));
        row("the first of 500", median(own), "ms", floor, "<= 25 ms");
    }

    /// `dewar status` while 200 tasks run.
    pub fn status_of_many(&self) {
        const TASKS: usize = 200;
        // A root of its own: other tasks are not to be seen.
        let root = self.path().join("many");
        let file = self.task(
            "idle",
            &json!({"processes": [{"name": "p", "argv": ["sleep", "1000"]}]}),
        );
        let id = |number| format!("t{number}");
        for number in 0..TASKS {
            let mut command = self.dewar();
            command.env("DEWAR_ROOT", &root).arg("run").arg(&file);
            command.args(["--id", &id(number), "--detach"]);
            assert!(command.status().expect("dewar").success());
        }
        let looks = (0..11).map(|_| time(self.dewar().env("DEWAR_ROOT", &root).arg("status")));
        let looks = median(looks.collect());
        let journals = || {
            let tasks = (0..TASKS).map(|number| root.join("tasks").join(id(number)));
            tasks.filter_map(|task| fs::read(task.join("journal")).ok())
        };
        let began = Instant::now();
        let bytes: usize = journals().map(|journal| journal.len()).sum();
        let floor = began.elapsed().as_secs_f64() * 1000.0;
        assert!(bytes > 0, "there are journals");
        for number in 0..TASKS {
            let mut command = self.dewar();
            command.env("DEWAR_ROOT", &root);
            command.args(["kill", &id(number), "--now"]);
            assert!(command.status().expect("dewar").success());
        }
        row(
            "`dewar status` of 200 running tasks",
            looks,
            "ms",
            Some(("reading the journals", floor)),
            "<= 60 ms",
        );
    }

    /// One process whose health is checked ten times a second: 60 looks, one a second.
    pub fn memory_with_checks(&self) {
        const LOOKS: usize = 60;
        let health = json!({"shell": "true", "interval": "100ms", "timeout": "10s"});
        let process = json!({"name": "p", "argv": ["sleep", "1000"], "health": health});
        let file = self.task("checked", &json!({"processes": [process]}));
        let mut command = self.dewar();
        command.arg("run").arg(file);
        command.args(["--id", "checked", "--detach"]);
        assert!(command.status().expect("dewar").success());
        let pids = wait_for(|| {
            let task = self.status("checked");
            (task["processes"][0]["state"] == "RUNNING").then(|| ours(&task))
        });
        let cpu = || -> f64 { pids.iter().map(|pid| cpu_ms(*pid)).sum() };
        let before = cpu();
        let looks = (0..LOOKS).map(|_| {
            std::thread::sleep(Duration::from_secs(1));
            pids.iter().map(|pid| pss(*pid)).sum()
        });
        let size = median(looks.collect());
        let used = (cpu() - before) / LOOKS as f64;
        self.kill("checked");
        let what = "PSS with a check every 100 ms";
        row(what, size, "kB", None, "<= 2560 kB");
        row("its CPU, ours alone", used, "ms/s", None, "today's + 5 %");
    }
}

/// Milliseconds from the start of `command` to the instant in the file `mark`.
fn until_mark(command: &mut std::process::Command, mark: &std::path::Path) -> f64 {
    let epoch = std::time::UNIX_EPOCH;
    let began = epoch.elapsed().expect("a time").as_secs_f64();
    assert!(quiet(command).status().expect("it starts").success());
    let text = fs::read_to_string(mark).expect("a mark");
    let at: Value = serde_json::from_str(text.trim()).expect("a number");
    (at.as_f64().expect("a number") - began) * 1000.0
}

/// The time on the processor of all threads of a process, without its children, milliseconds.
fn cpu_ms(pid: u64) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let of = |path: std::path::PathBuf| -> f64 {
        let text = fs::read_to_string(path.join("schedstat")).expect("schedstat");
        let nanos = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok());
        nanos.expect("a number")
    };
    let nanos: f64 = threads.flatten().map(|entry| of(entry.path())).sum();
    nanos / 1e6
}
