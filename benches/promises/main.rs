//! The promised numbers of SPECIFICATION.md, each beside its floor of the same run.
//!
//! `cargo bench` prints all of them; `cargo bench -- speed` or `-- cost` some. Nothing is asserted:
//! a busy machine is no failure. Run it on an idle one.

mod bounds;
mod build;
mod lasting;
mod logs;
mod many;
mod scheduler;
mod slow_disk;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use dewar::mesos::{
    fakes::agent::{Container, FakeAgent, Options},
    protocol::messages::{AgentId, TaskId, TaskInfo},
};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Bench {
    directory: TempDir,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("__produce", arguments)) = words.split_first().map(|(a, b)| (a.as_str(), b)) {
        return logs::produce(arguments);
    }
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let wants = |name: &str| wanted.as_deref().is_none_or(|wanted| name.contains(wanted));
    let bench = Bench {
        directory: TempDir::new().expect("a temporary directory"),
    };
    if wants("speed") {
        bench.speed();
        bench.first_of_many();
        bench.slow_disk();
    }
    if wants("cost") {
        bench.memory();
        bench.memory_with_checks();
        bench.status_of_many();
        bench.wake_ups();
        bench.records();
    }
    if wants("recovery") {
        bench.recovery();
    }
    if wants("latency") {
        bench.latency();
    }
    if wants("executor") {
        bench.executor();
    }
    if wants("bounds") {
        bench.bounds();
    }
    if wants("logs") {
        bench.logs();
    }
    if wants("scheduler") {
        bench.scheduler();
    }
    if wants("lasting") {
        bench.lasting();
    }
    // Minutes of building: only by its name.
    if wanted.as_deref() == Some("build") {
        bench.build();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn row(what: &str, value: f64, unit: &str, floor: Option<(&str, f64)>, promise: &str) {
    let floor = floor.map_or_else(String::new, |(name, floor)| {
        format!("  {name}: {floor:.2} {unit}, ratio {:.2}", value / floor)
    });
    println!("{what:48} {value:9.2} {unit}{floor}  (promise: {promise})");
}

impl Bench {
    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn task(&self, name: &str, task: &Value) -> PathBuf {
        let path = self.path().join(format!("{name}.json"));
        fs::write(&path, task.to_string()).expect("a file");
        path
    }

    fn dewar(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dewar"));
        command.env("DEWAR_ROOT", self.path().join("root"));
        quiet(&mut command);
        command
    }

    fn processes(count: usize, cmdline: &str) -> Vec<Value> {
        (0..count)
            .map(|index| json!({"name": format!("p{index}"), "cmdline": cmdline}))
            .collect()
    }

    /// Medians of `rounds` rounds, in turns, so that a machine that slows down slows both.
    fn compare(&self, rounds: usize, task: &Path, floor: &str) -> (f64, f64) {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..rounds {
            let mut command = self.dewar();
            command.arg("run").arg(task);
            ours.push(time(&mut command));
            let mut command = Command::new("bash");
            command.args(["-c", floor]);
            theirs.push(time(quiet(&mut command)));
        }
        (median(ours), median(theirs))
    }

    fn speed(&self) {
        let one = self.task("one", &json!({"processes": Self::processes(1, "true")}));
        let (ours, floor) = self.compare(41, &one, "true");
        let promise = "<= 10 ms, <= 4x";
        row(
            "one `true`, run to exit",
            ours,
            "ms",
            Some(("bash -c true", floor)),
            promise,
        );

        let chain = Self::processes(100, "true");
        let order: Vec<Value> = chain
            .iter()
            .map(|process| process["name"].clone())
            .collect();
        let chain = json!({"processes": chain, "constraints": [{"order": order}]});
        let chain = self.task("chain", &chain);
        let floor = "for i in $(seq 100); do bash -c true; done";
        let (ours, floor) = self.compare(7, &chain, floor);
        row(
            "a chain of 100",
            ours,
            "ms",
            Some(("100 in a row", floor)),
            "<= 2x",
        );

        let many = self.task("many", &json!({"processes": Self::processes(500, "true")}));
        let floor = "for i in $(seq 500); do bash -c true & done; wait";
        let (ours, floor) = self.compare(7, &many, floor);
        row(
            "500 independent",
            ours,
            "ms",
            Some(("the shell loop", floor)),
            "<= 1.3x",
        );
    }

    /// From the instant a process exits to its dependent's exec (a little after its gate opened),
    /// seen by the kernel's own tracer. Needs root.
    fn latency(&self) {
        let Some(tracer) = Tracer::start() else {
            println!("from an exit to the next gate: not measured (tracefs needs root)");
            return;
        };
        let count = 300;
        let processes: Vec<Value> = (0..count)
            .map(|index| json!({"name": format!("p{index}"), "argv": ["/bin/true"]}))
            .collect();
        let order: Vec<Value> = processes.iter().map(|p| p["name"].clone()).collect();
        let task = json!({"processes": processes, "constraints": [{"order": order}]});
        let file = self.task("latency", &task);
        let mut command = self.dewar();
        command.arg("run").arg(file).args(["--id", "latency"]);
        assert!(command.status().expect("dewar").success());
        let events = tracer.stop();
        let task = self.status("latency");
        let pids: Vec<u64> = task["processes"]
            .as_array()
            .expect("processes")
            .iter()
            .map(|process| process["runs"][0]["pid"].as_u64().expect("a pid"))
            .collect();
        let time_of = |kind: &str, pid: u64| {
            let wanted = format!(" pid={pid} ");
            let event = events
                .iter()
                .find(|line| line.contains(kind) && format!("{line} ").contains(&wanted));
            event.and_then(|line| {
                let words = line.split_whitespace();
                let mut times =
                    words.filter_map(|word| word.strip_suffix(':')?.parse::<f64>().ok());
                times.next()
            })
        };
        let mut delays: Vec<f64> = pids
            .windows(2)
            .filter_map(|pair| {
                let exit = time_of("sched_process_exit:", pair[0])?;
                let exec = time_of("sched_process_exec:", pair[1])?;
                Some((exec - exit) * 1000.0)
            })
            .collect();
        delays.sort_by(f64::total_cmp);
        assert!(
            delays.len() > count / 2,
            "only {} events were seen",
            delays.len()
        );
        let p99 = delays[delays.len() * 99 / 100];
        row(
            "from an exit to the next exec, median",
            median(delays),
            "ms",
            None,
            "<= 1.5 ms",
        );
        row(
            "from an exit to the next exec, p99",
            p99,
            "ms",
            None,
            "<= 10 ms",
        );
    }

    /// Starts `count` sleepers and returns the task's status once all of them run.
    fn sleepers(&self, id: &str, count: usize) -> Value {
        let sleepers: Vec<Value> = (0..count)
            .map(|index| json!({"name": format!("p{index}"), "argv": ["sleep", "1000"]}))
            .collect();
        let file = self.task(id, &json!({"processes": sleepers}));
        let mut command = self.dewar();
        command.arg("run").arg(file).args(["--id", id, "--detach"]);
        assert!(command.status().expect("dewar").success());
        wait_for(|| {
            let task = self.status(id);
            let processes = task["processes"].as_array()?;
            let all = processes
                .iter()
                .all(|process| process["state"] == "RUNNING");
            all.then_some(task)
        })
    }

    fn status(&self, id: &str) -> Value {
        let mut command = self.dewar();
        command.args(["status", id, "--format", "json"]);
        let output = command.stdout(Stdio::piped()).output().expect("dewar");
        let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        status["tasks"][0].clone()
    }

    fn kill(&self, id: &str) {
        let mut command = self.dewar();
        command.args(["kill", id, "--now"]);
        assert!(command.status().expect("dewar").success());
    }

    fn memory(&self) {
        let mut sizes = Vec::new();
        for count in [1, 10, 200] {
            let id = format!("sleep{count}");
            let task = self.sleepers(&id, count);
            // At rest: what starting took has been given back.
            std::thread::sleep(Duration::from_secs(1));
            let size: f64 = ours(&task).iter().map(|pid| pss(*pid)).sum();
            sizes.push(size);
            self.kill(&id);
        }
        let promise = "<= 2048 kB";
        row(
            "PSS of all processes of ours, one process",
            sizes[0],
            "kB",
            None,
            promise,
        );
        let each = (sizes[2] - sizes[1]) / 190.0;
        row(
            "PSS for each further process, 10 to 200",
            each,
            "kB",
            None,
            "<= 4 kB",
        );
    }

    fn wake_ups(&self) {
        let task = self.sleepers("idle", 100);
        let pids = ours(&task);
        std::thread::sleep(Duration::from_secs(1));
        let before: u64 = pids.iter().map(|pid| switches(*pid)).sum();
        std::thread::sleep(Duration::from_secs(30));
        let after: u64 = pids.iter().map(|pid| switches(*pid)).sum();
        let count = (after - before) as f64;
        row("wake-ups in 30 s, 100 sleepers", count, "", None, "0");
        self.kill("idle");
    }

    fn records(&self) {
        let size = |count: usize| {
            let id = format!("records{count}");
            let file = self.task(&id, &json!({"processes": Self::processes(count, "true")}));
            let mut command = self.dewar();
            command.arg("run").arg(file).args(["--id", &id]);
            assert!(command.status().expect("dewar").success());
            let journal = self.path().join("root/tasks").join(&id).join("journal");
            let header = self.path().join(format!("{id}.json"));
            let resolved = self
                .dewar()
                .arg("inspect")
                .arg(header)
                .stdout(Stdio::piped())
                .output();
            let resolved: Value =
                serde_json::from_slice(&resolved.expect("dewar").stdout).expect("JSON");
            let journal = fs::metadata(journal).expect("a journal").len();
            (journal - resolved.to_string().len() as u64) as f64
        };
        let each = (size(300) - size(100)) / 200.0;
        row("records of one run", each, "bytes", None, "<= 200 bytes");
    }

    /// The executor under the fake agent.
    fn executor(&self) {
        let mut subscribed = Vec::new();
        let mut launched = Vec::new();
        for round in 0..21 {
            let agent = FakeAgent::start(Options::default()).expect("an agent");
            let sandbox = self.path().join(format!("executor{round}"));
            let root = self.path().join("root").display().to_string();
            let command = [env!("CARGO_BIN_EXE_dewar"), "--root", &root, "executor"];
            let command = command.map(str::to_owned);
            let began = Instant::now();
            let container = Container::launch(&command, &sandbox, &agent.environment(&sandbox));
            let container = container.expect("an executor");
            while agent.subscriptions() == 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
            subscribed.push(began.elapsed().as_secs_f64() * 1000.0);
            let id = format!("t{round}");
            let fifo = self.path().join(format!("{id}.fifo"));
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
            // Its first process opens the fifo as the first thing that it does.
            let data = json!({"processes": [
                {"name": "mark", "argv": ["touch", fifo]},
                {"name": "stay", "argv": ["sleep", "1000"]},
            ]});
            let info = TaskInfo {
                name: id.clone(),
                task_id: TaskId { value: id.clone() },
                agent_id: AgentId {
                    value: "a".to_owned(),
                },
                data: Some(data.to_string().into_bytes()),
                ..TaskInfo::default()
            };
            let began = Instant::now();
            agent.launch(vec![info], false);
            drop(fs::File::open(&fifo).expect("the fifo"));
            launched.push(began.elapsed().as_secs_f64() * 1000.0);
            if round == 20 {
                self.resting_executor(&id);
            }
            agent.kill(&id, Some(Duration::ZERO));
            assert!(
                container
                    .wait_dead(Duration::from_secs(30))
                    .expect("a look")
            );
        }
        let what = "exec of `dewar executor` to SUBSCRIBE";
        row(what, median(subscribed), "ms", None, "<= 15 ms");
        let what = "LAUNCH to the first process, durable";
        row(what, median(launched), "ms", None, "<= 10 ms");
    }

    fn resting_executor(&self, id: &str) {
        std::thread::sleep(Duration::from_secs(1));
        let pids = ours(&self.status(id));
        let size: f64 = pids.iter().map(|pid| pss(*pid)).sum();
        let what = "PSS of an executor with one task";
        row(what, size, "kB", None, "<= 3072 kB");
        let before: u64 = pids.iter().map(|pid| switches(*pid)).sum();
        std::thread::sleep(Duration::from_secs(30));
        let after: u64 = pids.iter().map(|pid| switches(*pid)).sum();
        let what = "wake-ups of an executor in 30 s";
        row(what, (after - before) as f64, "", None, "0");
    }

    fn recovery(&self) {
        for victim in ["runner_pid", "keeper_pid"] {
            let mut delays = Vec::new();
            for round in 0..7 {
                let id = format!("{victim}{round}");
                delays.push(self.recover(&id, victim));
            }
            let what = format!("SIGKILL of the {} to a dependent's start", &victim[..6]);
            row(
                &what,
                median(delays),
                "ms",
                None,
                "<= 100 ms, 100 processes",
            );
        }
    }

    /// Kills one of ours and, in the same instant, what a dependent waits for.
    fn recover(&self, id: &str, victim: &str) -> f64 {
        let mut processes: Vec<Value> = (0..100)
            .map(|index| json!({"name": format!("p{index}"), "argv": ["sleep", "1000"]}))
            .collect();
        let marks = self.path().join(format!("{id}.fifo"));
        nix::unistd::mkfifo(&marks, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        let go = format!("read -r _ < {}", marks.display());
        processes.push(json!({"name": "first", "cmdline": go}));
        processes.push(json!({"name": "then", "cmdline": "date +%s%N > started"}));
        let orders = json!([{"order": ["first", "then"]}]);
        let task = json!({"processes": processes, "constraints": orders});
        let file = self.task(id, &task);
        let mut command = self.dewar();
        command.arg("run").arg(file).args(["--id", id, "--detach"]);
        assert!(command.status().expect("dewar").success());
        let running = |task: &Value| {
            let processes = task["processes"].as_array().expect("processes");
            let running = processes
                .iter()
                .filter(|process| process["state"] == "RUNNING");
            running.count() == 101
        };
        let task = wait_for(|| Some(self.status(id)).filter(running));
        let pid = task[victim].as_i64().expect("a pid") as i32;
        let pid = nix::unistd::Pid::from_raw(pid);
        let began = std::time::SystemTime::now();
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kill");
        fs::write(&marks, "\n").expect("the fifo");
        let started = self
            .path()
            .join("root/tasks")
            .join(id)
            .join("sandbox/started");
        let nanos: u128 = wait_for(|| fs::read_to_string(&started).ok()?.trim().parse().ok());
        self.kill(id);
        let began = began.duration_since(std::time::UNIX_EPOCH).expect("a time");
        (nanos as f64 - began.as_nanos() as f64) / 1e6
    }
}

/// The kernel's tracer: exits and execs with their instants. What it set up goes with it.
struct Tracer {
    mount: TempDir,
}

impl Tracer {
    fn start() -> Option<Tracer> {
        let mount = TempDir::new().ok()?;
        let mut command = Command::new("mount");
        command.args(["-t", "tracefs", "tracefs"]).arg(mount.path());
        if !quiet(&mut command).status().ok()?.success() {
            return None;
        }
        let tracer = Tracer { mount };
        fs::create_dir(tracer.path("")).ok()?;
        tracer.set("buffer_size_kb", "4096");
        for event in ["sched_process_exit", "sched_process_exec"] {
            tracer.set(&format!("events/sched/{event}/enable"), "1");
        }
        Some(tracer)
    }

    /// A file of our own instance: no other tracing is touched.
    fn path(&self, name: &str) -> PathBuf {
        self.mount.path().join("instances/dewar-bench").join(name)
    }

    fn set(&self, name: &str, value: &str) {
        fs::write(self.path(name), value).expect("tracefs");
    }

    fn stop(self) -> Vec<String> {
        self.set("tracing_on", "0");
        let text = fs::read_to_string(self.path("trace")).expect("the trace");
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.path(""));
        let mut command = Command::new("umount");
        let _ = quiet(command.arg(self.mount.path())).status();
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

fn time(command: &mut Command) -> f64 {
    let began = Instant::now();
    assert!(command.status().expect("it starts").success());
    began.elapsed().as_secs_f64() * 1000.0
}

fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(Instant::now() < until, "waited too long");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Root, keeper and runner.
fn ours(task: &Value) -> Vec<u64> {
    ["root_pid", "keeper_pid", "runner_pid"]
        .map(|name| task[name].as_u64().expect("a pid"))
        .to_vec()
}

fn pss(pid: u64) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps_rollup");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kilobytes.expect("Pss")
}

/// Context switches of all threads: each wake-up is at least one.
fn switches(pid: u64) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let of = |path: PathBuf| -> u64 {
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        counts
            .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
            .sum()
    };
    tasks.flatten().map(|entry| of(entry.path())).sum()
}
