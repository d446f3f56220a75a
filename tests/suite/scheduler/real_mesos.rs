//! The scheduler on a real Mesos: a master, two agents, our executor. Everything is killed in turn.
//!
//! It needs the Mesos that `./test` installs, and says so where there is none.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    process::{Child, Output, Stdio},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    mesos::real::{Daemon, PROGRAMS, free_port, is_there, ready},
    support::{Bench, code, signal, wait_for},
};

const AGENTS: usize = 2;

struct Cluster {
    bench: Bench,
    ports: [u16; 1 + AGENTS],
    master: Option<Daemon>,
    agents: [Option<Daemon>; AGENTS],
    scheduler: Option<Child>,
    /// What the processes of this cluster's jobs sleep, before the point; instances are behind it.
    mark: String,
}

impl Cluster {
    fn new() -> Cluster {
        let ports = [free_port(), free_port(), free_port()];
        let mut cluster = Cluster {
            bench: Bench::new(),
            ports,
            master: None,
            agents: [None, None],
            scheduler: None,
            mark: format!("7{}{}", std::process::id(), ports[0]),
        };
        cluster.start_master();
        for index in 0..AGENTS {
            cluster.start_agent(index);
        }
        cluster.start_scheduler();
        cluster
    }

    fn path(&self, name: &str) -> String {
        self.bench.path().join(name).display().to_string()
    }

    fn start_master(&mut self) {
        let flags = [
            ("work_dir", self.path("master")),
            ("registry", "in_memory".to_owned()),
            ("hostname", "localhost".to_owned()),
            ("allocation_interval", "50ms".to_owned()),
            ("agent_ping_timeout", "1secs".to_owned()),
            ("max_agent_ping_timeouts", "2".to_owned()),
        ];
        let port = self.ports[0];
        let master = Daemon::start("mesos-master", port, self.bench.path(), &flags);
        self.master = Some(master);
        ready(port, "master/elected");
    }

    fn start_agent(&mut self, index: usize) {
        let own = |name: &str| self.path(&format!("{name}{index}"));
        let first = 31_000 + 500 * index;
        let resources = format!(
            "cpus:16;mem:8192;disk:10240;ports:[{first}-{}]",
            first + 400
        );
        let mut flags = vec![
            ("master", format!("127.0.0.1:{}", self.ports[0])),
            ("port", self.ports[1 + index].to_string()),
            ("work_dir", own("agent")),
            ("runtime_dir", own("run")),
            ("fetcher_cache_dir", own("fetch")),
            ("appc_store_dir", own("appc")),
            ("docker_store_dir", own("docker")),
            ("launcher_dir", PROGRAMS.to_owned()),
            ("hostname", format!("host{index}")),
            ("resources", resources),
            ("systemd_enable_support", "false".to_owned()),
            ("registration_backoff_factor", "10ms".to_owned()),
            ("executor_shutdown_grace_period", "2secs".to_owned()),
            ("launcher", "posix".to_owned()),
            ("isolation", "posix/cpu,posix/mem".to_owned()),
        ];
        if !nix::unistd::geteuid().is_root() {
            flags.push(("switch_user", "false".to_owned()));
        }
        let port = self.ports[1 + index];
        let agent = Daemon::start("mesos-agent", port, self.bench.path(), &flags);
        self.agents[index] = Some(agent);
        ready(port, "slave/registered");
    }

    fn start_scheduler(&mut self) {
        let master = format!("127.0.0.1:{}", self.ports[0]);
        let executor = format!(
            "exec {} --root {} executor",
            env!("CARGO_BIN_EXE_dewar"),
            self.path("tasks")
        );
        let words = ["scheduler", "--master", &master, "--executor", &executor];
        let mut child = self
            .bench
            .dewar(&words)
            .env("DEWAR_LOG", "info")
            .stdout(Stdio::null())
            .spawn()
            .expect("a scheduler");
        let reader = BufReader::new(child.stderr.take().expect("stderr"));
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                println!("scheduler: {line}");
                // Only the beginning is listened to.
                let _ = send.send(line);
            }
        });
        while !lines
            .recv()
            .expect("its beginning")
            .starts_with("listening")
        {}
        self.scheduler = Some(child);
    }

    fn kill_scheduler(&mut self) {
        if let Some(mut child) = self.scheduler.take() {
            signal(u64::from(child.id()), Signal::SIGKILL);
            child.wait().expect("its end");
        }
    }

    fn try_job(&self, words: &[&str]) -> Output {
        self.bench.run(&[&["job"], words].concat())
    }

    fn job(&self, words: &[&str]) -> String {
        let output = self.try_job(words);
        let said = String::from_utf8_lossy(&output.stderr);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(code(&output), 0, "{words:?}: {said}{told}");
        told
    }

    /// A service of so many instances, which is healthy while its check says so.
    fn service(&self, instances: u32, more: &str) -> String {
        let mark = &self.mark;
        let text = format!(
            "
name: web
instances: {instances}
service: true
environment: test
update_config: {{batch_size: 5, watch_secs: 0.2}}
task:
  resources: {{cpu: 0.1, ram: 32MiB, disk: 32MiB}}
  finalization_wait: 5s
  health: {{shell: 'true', interval: 500ms, initial_interval: 20s}}
  processes:
    - name: main
      argv: [sleep, '{mark}.{{{{mesos.instance}}}}']
      max_failures: 0
      min_duration: 100ms
{more}"
        );
        self.bench.file("web.yaml", &text).display().to_string()
    }

    fn key(&self, name: &str) -> String {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
        let user = user.expect("a look").expect("a user").name;
        format!("{user}/test/{name}")
    }

    fn view(&self, key: &str) -> Option<Value> {
        let output = self.try_job(&["status", key, "--format", "json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// The processes that run, by the instance that each is of.
    fn processes(&self) -> BTreeMap<String, Vec<u64>> {
        let begin = format!("sleep\0{}.", self.mark);
        let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        for entry in entries {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).into_owned();
            if let Some(instance) = words.strip_prefix(&begin) {
                let instance = instance.trim_end_matches('\0').to_owned();
                found.entry(instance).or_default().push(pid);
            }
        }
        found
    }

    /// The scheduler says that all instances run, and so they do: one process each.
    fn has_exactly(&self, key: &str, count: u32) {
        wait_for("the instances", || {
            let view = self.view(key)?;
            let totals = &view["totals"];
            let is_settled = totals["running"] == count
                && totals["wanted"] == count
                && totals["killing"] == 0
                && totals["unreachable"] == 0;
            let processes = self.processes();
            let is_each_one = (0..count).all(|number| {
                let pids = processes.get(&number.to_string());
                pids.is_some_and(|pids| pids.len() == 1)
            });
            (is_settled && is_each_one && processes.len() as u32 == count).then_some(())
        });
    }

    fn task_ids(&self, key: &str) -> Vec<String> {
        let view = self.view(key).expect("the job");
        let instances = view["instances"].as_array().expect("a list").clone();
        let ids = instances.iter().map(|one| one["task_id"].as_str());
        ids.map(|id| id.unwrap_or_default().to_owned()).collect()
    }

    /// What `dewar status` says of the tasks on the agents' machine.
    fn local(&self) -> Vec<Value> {
        let output = self
            .bench
            .dewar_at(&self.path("tasks"), &["status", "--format", "json"])
            .output()
            .expect("status");
        let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        status["tasks"].as_array().expect("a list").clone()
    }

    /// Ends every job, and looks that nothing of them is left.
    fn end(&mut self) {
        let told = self.job(&["status", "--format", "json"]);
        let jobs: Value = serde_json::from_str(&told).expect("JSON");
        for job in jobs["jobs"].as_array().expect("a list") {
            self.job(&["kill", job["key"].as_str().expect("a key")]);
        }
        wait_for("every process to be gone", || {
            self.processes().is_empty().then_some(())
        });
        let mark = format!("MESOS_SANDBOX={}", self.bench.path().display());
        wait_for("every executor to leave", || {
            let entries = fs::read_dir("/proc").expect("/proc").flatten();
            let mut environments =
                entries.filter_map(|entry| fs::read(entry.path().join("environ")).ok());
            let is_ours = |environment: &Vec<u8>| {
                let mut variables = environment.split(|byte| *byte == 0);
                variables.any(|variable| variable.starts_with(mark.as_bytes()))
            };
            (!environments.any(|environment| is_ours(&environment))).then_some(())
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let show = |name: &str| {
                let log = fs::read_to_string(self.bench.path().join(name)).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(40).collect();
                println!("{name}:");
                for line in tail.into_iter().rev() {
                    println!("  {line}");
                }
            };
            show("mesos-master.log");
            show("mesos-agent.log");
        }
        self.kill_scheduler();
        for agent in self.agents.iter_mut().flatten() {
            // With SIGUSR1 it destroys its containers first.
            agent.end(Signal::SIGUSR1);
        }
    }
}

#[test]
fn twenty_instances_outlive_everybody() {
    if !is_there() {
        return;
    }
    let mut cluster = Cluster::new();
    let key = cluster.key("web");
    cluster.job(&["create", &cluster.service(20, "")]);
    cluster.has_exactly(&key, 20);
    let ids = cluster.task_ids(&key);

    // A process: its task runs it again.
    let pid = cluster.processes()["7"][0];
    signal(pid, Signal::SIGKILL);
    wait_for("the process to be replaced", || {
        let again = cluster.processes().get("7").cloned()?;
        (again.len() == 1 && again[0] != pid).then_some(())
    });
    // An executor's runner: another one goes on.
    let runner = |cluster: &Cluster| {
        let tasks = cluster.local();
        let task = tasks
            .iter()
            .find(|task| task["task_id"] == ids[3].as_str())?;
        task["runner_pid"].as_u64()
    };
    let before = runner(&cluster).expect("a runner");
    signal(before, Signal::SIGKILL);
    wait_for("another runner", || {
        runner(&cluster).filter(|pid| *pid != before)
    });
    cluster.has_exactly(&key, 20);
    // An agent: its executors wait for it.
    if let Some(mut agent) = cluster.agents[0].take() {
        agent.end(Signal::SIGKILL);
    }
    cluster.start_agent(0);
    cluster.has_exactly(&key, 20);
    // The master, and what it knew.
    if let Some(mut master) = cluster.master.take() {
        master.end(Signal::SIGKILL);
    }
    cluster.start_master();
    cluster.has_exactly(&key, 20);
    // The scheduler.
    cluster.kill_scheduler();
    cluster.start_scheduler();
    cluster.has_exactly(&key, 20);
    assert_eq!(cluster.task_ids(&key), ids, "nothing was launched anew");

    // An agent that is away for too long: its instances run elsewhere, and it comes back to be told
    // so.
    if let Some(mut agent) = cluster.agents[1].take() {
        agent.end(Signal::SIGKILL);
    }
    wait_for("the replacements", || {
        let view = cluster.view(&key)?;
        let instances = view["instances"].as_array()?;
        let is_here = |one: &Value| one["host"] == "host0" && one["state"] == "RUNNING";
        instances.iter().all(is_here).then_some(())
    });
    cluster.start_agent(1);
    cluster.has_exactly(&key, 20);
    cluster.end();
}

#[test]
fn updates_scaling_draining_and_a_batch() {
    if !is_there() {
        return;
    }
    let mut cluster = Cluster::new();
    let key = cluster.key("web");
    cluster.job(&["create", &cluster.service(20, "")]);
    cluster.has_exactly(&key, 20);
    // A rolling update, five at a time.
    let told = cluster.job(&["update", &cluster.service(20, "      env: {V: '2'}\n")]);
    assert!(told.contains("20 to change"), "{told}");
    assert!(
        told.trim_end().ends_with("update rolled forward 20/20"),
        "{told}"
    );
    cluster.has_exactly(&key, 20);
    let good = cluster.task_ids(&key);
    // A bad version rolls back.
    let bad = cluster.service(
        20,
        "      env: {V: '3'}\n    - {name: bad, cmdline: exit 9}\n",
    );
    let output = cluster.try_job(&["update", &bad]);
    assert_eq!(code(&output), 1);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("rolled back"), "{told}");
    assert!(told.contains("process bad exited with 9"), "{told}");
    cluster.has_exactly(&key, 20);
    let untouched = cluster.task_ids(&key);
    let same = good.iter().zip(&untouched).filter(|(a, b)| a == b);
    assert_eq!(same.count(), 15, "only the first batch was ever touched");

    cluster.job(&["scale", &key, "5"]);
    cluster.has_exactly(&key, 5);
    cluster.job(&["scale", &key, "30"]);
    cluster.has_exactly(&key, 30);
    cluster.job(&["drain", "host1"]);
    wait_for("the host to be empty", || {
        let view = cluster.view(&key)?;
        let instances = view["instances"].as_array()?;
        instances
            .iter()
            .all(|one| one["host"] == "host0")
            .then_some(())
    });
    cluster.has_exactly(&key, 30);
    cluster.job(&["drain", "host1", "--over"]);

    // Fails twice, then succeeds: it counts in a file.
    let count = cluster.path("count");
    let batch = format!(
        "
name: batch
environment: test
max_task_failures: 3
task:
  resources: {{cpu: 0.1, ram: 32MiB, disk: 32MiB}}
  processes: [{{name: once, cmdline: 'echo >> {count}; test $(wc -l < {count}) -gt 2', min_duration: 0}}]
"
    );
    let file = cluster
        .bench
        .file("batch.yaml", &batch)
        .display()
        .to_string();
    let told = cluster.job(&["create", &file]);
    assert!(told.trim_end().ends_with("1/1 finished"), "{told}");
    let view = cluster.view(&cluster.key("batch")).expect("the job");
    assert_eq!(view["instances"][0]["failures"], 2);
    cluster.end();
}
