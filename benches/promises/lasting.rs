//! A daemon that was restarted a hundred thousand times: how large its journal is, and how long a
//! replay of it takes.

use std::{fs, time::Instant};

use serde_json::{Value, json};

use super::{Bench, median, row};

const RUNS: u64 = 100_000;

impl Bench {
    pub fn lasting(&self) {
        let daemon = json!({
            "name": "d", "argv": ["/bin/true"], "daemon": true, "min_duration": "0s", "max_runs": 0,
            "logger": {"destination": "none"}
        });
        let file = self.task("lasting", &json!({"processes": [daemon]}));
        let mut command = self.dewar();
        command
            .arg("run")
            .arg(file)
            .args(["--id", "lasting", "--detach"]);
        assert!(command.status().expect("dewar").success());
        let journal = self.path().join("root/tasks/lasting/journal");
        let size = || fs::metadata(&journal).expect("a journal").len();
        let mut largest = 0;
        let began = Instant::now();
        let totals = |task: &Value| -> u64 {
            let totals = task["processes"][0]["totals"].as_object().expect("totals");
            totals.values().filter_map(Value::as_u64).sum()
        };
        let task = loop {
            largest = largest.max(size());
            let task = self.status("lasting");
            if totals(&task) >= RUNS {
                break task;
            }
            assert!(began.elapsed().as_secs() < 1800, "too slow");
            std::thread::sleep(std::time::Duration::from_millis(500));
        };
        let runs = task["processes"][0]["runs"].as_array().expect("runs");
        let last = runs.last().expect("a run")["run"]
            .as_u64()
            .expect("a number");
        let ended = totals(&task);
        assert!(last == ended || last + 1 == ended, "{last} and {ended}");
        let per_run = began.elapsed().as_secs_f64() * 1000.0 / ended as f64;
        row("a restart of a daemon", per_run, "ms", None, "no promise");
        let what = "its journal, at its largest, 100 000 restarts";
        row(what, largest as f64 / 1024.0, "kB", None, "<= 1024 kB");
        let replays = (0..9)
            .map(|_| {
                let began = Instant::now();
                self.status("lasting");
                began.elapsed().as_secs_f64() * 1000.0
            })
            .collect();
        let what = "`dewar status` of it: exec, replay, print";
        row(what, median(replays), "ms", None, "<= 50 ms");
        self.kill("lasting");
    }
}
