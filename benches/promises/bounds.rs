//! What limits and isolation cost: against the same without them, in turns. Needs root and cgroups.

use std::{path::PathBuf, process::Command, time::Instant};

use dewar::engine::{
    history::TaskStatus,
    store::{Measure, measure},
};
use serde_json::{Value, json};

use super::{Bench, median, ours, pss, row, time};

/// Processes of a chain, for what each further one costs.
const CHAIN: usize = 30;

fn limits() -> Value {
    json!({"ram": "64MiB", "cpu": 1, "pids": 20})
}

impl Bench {
    pub fn bounds(&self) {
        self.starts();
        self.statistics();
        self.footprint();
    }

    fn chain(&self, name: &str, count: usize, limited: bool, private: bool) -> PathBuf {
        let processes: Vec<Value> = (0..count)
            .map(|index| {
                let mut process = json!({"name": format!("p{index}"), "argv": ["/bin/true"]});
                if limited {
                    process["resources"] = limits();
                }
                process
            })
            .collect();
        let order: Vec<Value> = processes.iter().map(|one| one["name"].clone()).collect();
        let mut task = json!({"processes": processes, "constraints": [{"order": order}]});
        if private {
            task["isolation"] = json!("private");
        }
        self.task(name, &task)
    }

    fn starts(&self) {
        let tasks: Vec<PathBuf> = [(1, "one"), (CHAIN, "chain")]
            .into_iter()
            .flat_map(|(count, name)| {
                [
                    (false, false, "bare"),
                    (true, false, "limited"),
                    (false, true, "private"),
                ]
                .map(|(limited, private, kind)| {
                    self.chain(&format!("{name}-{kind}"), count, limited, private)
                })
            })
            .collect();
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); tasks.len()];
        for round in 0..31 {
            for (index, task) in tasks.iter().enumerate() {
                // Chains take longer, and tell as much with fewer rounds.
                if index >= 3 && round % 3 > 0 {
                    continue;
                }
                let mut command = self.dewar();
                command.arg("run").arg(task);
                times[index].push(time(&mut command));
            }
        }
        let medians: Vec<f64> = times.into_iter().map(median).collect();
        let bare = Some(("bare", medians[0]));
        row(
            "one `true` with limits, and its task's group",
            medians[1],
            "ms",
            bare,
            "none",
        );
        row(
            "one `true`, private",
            medians[2],
            "ms",
            bare,
            "<= bare + 5 ms",
        );
        let each = |of: usize, alone: usize| {
            let further = (CHAIN - 1) as f64;
            (medians[of] - medians[alone]) / further
        };
        let (bare, limited, private) = (each(3, 0), each(4, 1), each(5, 2));
        let what = "a further process with limits";
        row(what, limited, "ms", Some(("bare", bare)), "<= bare + 1 ms");
        let what = "a further process of a private task";
        row(what, private, "ms", Some(("bare", bare)), "<= bare + 1 ms");
    }

    fn sleeping(&self, id: &str, count: usize, limited: bool) -> Value {
        let processes: Vec<Value> = (0..count)
            .map(|index| {
                let mut process = json!({"name": format!("p{index}"), "argv": ["sleep", "1000"]});
                if limited {
                    process["resources"] = limits();
                }
                process
            })
            .collect();
        let file = self.task(id, &json!({"processes": processes}));
        let mut command = self.dewar();
        command.arg("run").arg(file).args(["--id", id, "--detach"]);
        assert!(command.status().expect("dewar").success());
        loop {
            let status = self.status(id);
            let all = status["processes"].as_array().expect("processes");
            if all.iter().all(|process| process["state"] == "RUNNING") {
                return status;
            }
        }
    }

    fn statistics(&self) {
        let status = self.sleeping("statistics", 500, true);
        let status: TaskStatus = serde_json::from_value(status).expect("a status");
        let looks = (0..21)
            .map(|_| {
                let mut looked = status.clone();
                let began = Instant::now();
                measure(&mut looked, Measure::Brief);
                let took = began.elapsed().as_secs_f64() * 1000.0;
                let first = &looked.processes[0].runs[0].usage;
                assert!(first.as_ref().is_some_and(|usage| usage.pids == Some(1)));
                took
            })
            .collect();
        let took = median(looks);
        // The floor: the same files, read by a shell's cat.
        let mut command = Command::new("bash");
        let names = "{cpuacct.usage,memory.usage_in_bytes,pids.current,cpu.stat,memory.current}";
        let groups: Vec<String> = status
            .cgroups
            .iter()
            .map(|group| format!("{group}/*/{names}"))
            .collect();
        command.args([
            "-c",
            &format!("cat {} 2> /dev/null | wc -l", groups.join(" ")),
        ]);
        command.stdout(std::process::Stdio::null());
        let floor = median((0..5).map(|_| time(&mut command)).collect());
        let what = "usage, CPU and pids of 500 processes";
        row(what, took, "ms", Some(("cat", floor)), "<= 20 ms");
        self.kill("statistics");
    }

    fn footprint(&self) {
        let size = |id: &str, count: usize, limited: bool| {
            let status = self.sleeping(id, count, limited);
            // At rest: what starting took has been given back.
            std::thread::sleep(std::time::Duration::from_secs(1));
            let size: f64 = ours(&status).iter().map(|pid| pss(*pid)).sum();
            self.kill(id);
            size
        };
        let each = |limited: bool, kind: &str| {
            let few = size(&format!("few-{kind}"), 10, limited);
            let many = size(&format!("many-{kind}"), 200, limited);
            (many - few) / 190.0
        };
        let (bare, limited) = (each(false, "bare"), each(true, "limited"));
        let what = "PSS for each further process with limits";
        row(what, limited, "kB", Some(("bare", bare)), "unchanged");
    }
}
