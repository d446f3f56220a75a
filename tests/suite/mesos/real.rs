//! A real Mesos 1.11.0 on loopback: master, agent, and a small scheduler of the v1 API.
//!
//! `tests/mesos/install.py` (which `./test` runs) puts it under target/mesos. Where it cannot be
//! had, the tests that want it say so loudly and do nothing else; DEWAR_MESOS=required makes that
//! fail.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use dewar::mesos::protocol::{Decoder, Wire, messages::TaskStatus};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    mesos::stage::{Setting, Spec, Stage, info},
    support::{Bench, signal, wait_for},
};

pub const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/mesos/libexec");
const EXECUTOR: &str = "e";

/// True when there is a real Mesos; says so when there is none.
pub fn is_there() -> bool {
    let there = Path::new(PROGRAMS).join("mesos-agent").exists();
    let required = std::env::var("DEWAR_MESOS").is_ok_and(|value| value == "required");
    assert!(there || !required, "there is no real Mesos in {PROGRAMS}");
    if !there {
        eprintln!("######## SKIPPED: no real Mesos in {PROGRAMS}; ./test installs it ########");
    }
    there
}

/// A daemon that ends with its test.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(name: &str, port: u16, directory: &Path, flags: &[(&str, String)]) -> Daemon {
        let log = File::options()
            .append(true)
            .create(true)
            .open(directory.join(format!("{name}.log")))
            .expect("a log");
        let child = Command::new(Path::new(PROGRAMS).join(name))
            .args(
                flags
                    .iter()
                    .map(|(name, value)| format!("--{name}={value}")),
            )
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LIBPROCESS_IP", "127.0.0.1")
            .env("LIBPROCESS_PORT", port.to_string())
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn();
        Daemon(child.expect("a daemon"))
    }

    pub fn end(&mut self, with: Signal) {
        signal(u64::from(self.0.id()), with);
        self.0.wait().expect("its end");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|end| end.is_none()) {
            self.end(Signal::SIGKILL);
        }
    }
}

/// Sends a request and returns the answer's status, headers and body.
fn request(
    port: u16,
    head: &str,
    body: &[u8],
) -> std::io::Result<(u16, BTreeMap<String, String>, BufReader<TcpStream>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    // One that comes while the routes are being set up is never answered.
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(
        stream,
        "{head} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
            None => break,
        };
    }
    Ok((status.unwrap_or(0), headers, reader))
}

/// The next chunk of a chunked body; empty at its end.
fn chunk(reader: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let size = usize::from_str_radix(line.trim_end(), 16).unwrap_or(0);
    let mut bytes = vec![0; size + 2];
    reader.read_exact(&mut bytes)?;
    bytes.truncate(size);
    Ok(bytes)
}

#[derive(Default)]
struct Heard {
    framework: String,
    offers: Vec<Value>,
    updates: Vec<TaskStatus>,
}

/// A scheduler that acknowledges everything.
struct Scheduler {
    port: u16,
    stream_id: String,
    heard: Arc<Mutex<Heard>>,
}

impl Scheduler {
    fn subscribe(port: u16, checkpoint: bool) -> Scheduler {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
        let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {
            "user": user.expect("a look").expect("a user").name,
            "name": "dewar tests", "roles": ["*"], "checkpoint": checkpoint,
            "capabilities": [{"type": "MULTI_ROLE"}], "failover_timeout": 600.0,
        }}});
        let (status, headers, mut reader) =
            request(port, "POST /api/v1/scheduler", call.to_string().as_bytes())
                .expect("an answer");
        assert_eq!(status, 200);
        reader
            .get_ref()
            .set_read_timeout(None)
            .expect("no time-out");
        let heard = Arc::new(Mutex::new(Heard::default()));
        let scheduler = Scheduler {
            port,
            stream_id: headers["mesos-stream-id"].clone(),
            heard: Arc::clone(&heard),
        };
        let acknowledger = Scheduler {
            port,
            stream_id: scheduler.stream_id.clone(),
            heard,
        };
        // Ends when the master closes the stream.
        std::thread::spawn(move || {
            let mut decoder = Decoder::new(64 << 20);
            while let Ok(bytes) = chunk(&mut reader) {
                if bytes.is_empty() {
                    break;
                }
                decoder.push(&bytes);
                while let Some(record) = decoder.next_record().expect("records") {
                    acknowledger.hear(&serde_json::from_slice(&record).expect("JSON"));
                }
            }
        });
        wait_for("the subscription", || {
            let heard = scheduler.heard.lock().expect("a lock");
            (!heard.framework.is_empty()).then_some(())
        });
        scheduler
    }

    fn hear(&self, event: &Value) {
        let mut heard = self.heard.lock().expect("a lock");
        match event["type"].as_str() {
            Some("SUBSCRIBED") => {
                let id = event["subscribed"]["framework_id"]["value"].as_str();
                heard.framework = id.expect("an id").to_owned();
            }
            Some("OFFERS") => {
                let offers = event["offers"]["offers"].as_array().expect("offers");
                heard.offers.extend(offers.iter().cloned());
            }
            Some("UPDATE") => {
                let status = &event["update"]["status"];
                let bytes = status.to_string();
                let parsed: TaskStatus = Wire::Json.decode(bytes.as_bytes()).expect("a status");
                // The master's answer to a kill that was repeated after the task's end.
                let is_answer = parsed.reason().as_str_name() == "REASON_RECONCILIATION";
                let is_known = heard.updates.iter().any(|known| known.uuid == parsed.uuid);
                let is_new = !is_answer && (parsed.uuid.is_none() || !is_known);
                if is_new {
                    heard.updates.push(parsed);
                }
                let framework = heard.framework.clone();
                drop(heard);
                if status.get("uuid").is_some() {
                    self.send(
                        &framework,
                        "ACKNOWLEDGE",
                        json!({"acknowledge": {
                            "agent_id": status["agent_id"], "task_id": status["task_id"],
                            "uuid": status["uuid"],
                        }}),
                    );
                }
            }
            _ => {}
        }
    }

    fn send(&self, framework: &str, kind: &str, mut message: Value) {
        message["type"] = kind.into();
        message["framework_id"] = json!({"value": framework});
        let head = "POST /api/v1/scheduler".to_owned();
        let body = message.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the master");
        write!(
            stream,
            "{head} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nMesos-Stream-Id: {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.stream_id,
            body.len()
        )
        .expect("a call");
        let mut line = String::new();
        BufReader::new(stream)
            .read_line(&mut line)
            .expect("an answer");
        assert!(line.contains(" 202 "), "{kind}: {line}");
    }

    fn framework(&self) -> String {
        self.heard.lock().expect("a lock").framework.clone()
    }
}

/// A real Mesos with one executor.
pub struct Real {
    bench: Bench,
    setting: Setting,
    scheduler: Scheduler,
    _master: Daemon,
    agent: Option<Daemon>,
    ports: [u16; 2],
    agent_id: Option<Value>,
}

impl Real {
    pub fn new(setting: Setting) -> Real {
        let bench = Bench::new();
        let ports = [free_port(), free_port()];
        let directory = bench.path();
        fs::write(directory.join("key"), "0123456789abcdef0123456789abcdef").expect("a key");
        let credentials = json!({"credentials": [{"principal": "p", "secret": "s"}]});
        fs::write(directory.join("credentials"), credentials.to_string()).expect("credentials");
        let master = Daemon::start(
            "mesos-master",
            ports[0],
            directory,
            &[
                ("work_dir", directory.join("master").display().to_string()),
                ("registry", "in_memory".to_owned()),
                ("hostname", "localhost".to_owned()),
                ("allocation_interval", "50ms".to_owned()),
            ],
        );
        ready(ports[0], "master/elected");
        let scheduler = Scheduler::subscribe(ports[0], setting.checkpoint);
        let mut real = Real {
            bench,
            setting,
            scheduler,
            _master: master,
            agent: None,
            ports,
            agent_id: None,
        };
        real.start_agent();
        real
    }

    fn start_agent(&mut self) {
        let directory = self.bench.path().to_path_buf();
        let path = |name: &str| directory.join(name).display().to_string();
        let seconds = |duration: Duration| format!("{}ms", duration.as_millis());
        let mut flags = vec![
            ("master", format!("127.0.0.1:{}", self.ports[0])),
            ("port", self.ports[1].to_string()),
            ("work_dir", path("agent")),
            ("runtime_dir", path("run")),
            ("fetcher_cache_dir", path("fetch")),
            ("appc_store_dir", path("appc")),
            ("docker_store_dir", path("docker")),
            ("launcher_dir", PROGRAMS.to_owned()),
            ("hostname", "localhost".to_owned()),
            (
                "resources",
                "cpus:4;mem:4096;disk:10240;ports:[31000-32000]".to_owned(),
            ),
            ("systemd_enable_support", "false".to_owned()),
            ("registration_backoff_factor", "10ms".to_owned()),
            (
                "executor_shutdown_grace_period",
                seconds(self.setting.grace),
            ),
            ("recovery_timeout", seconds(self.setting.recovery)),
        ];
        let (launcher, isolation) = match self.setting.cgroups {
            true => ("linux", "cgroups/cpu,cgroups/mem"),
            false => ("posix", "posix/cpu,posix/mem"),
        };
        flags.push(("launcher", launcher.to_owned()));
        flags.push(("isolation", isolation.to_owned()));
        flags.push(("cgroups_root", self.cgroups_root()));
        if !nix::unistd::geteuid().is_root() {
            flags.push(("switch_user", "false".to_owned()));
        }
        if self.setting.token {
            flags.push(("authenticate_http_executors", "true".to_owned()));
            flags.push(("jwt_secret_key", path("key")));
            // Without other principals it refuses to start.
            flags.push(("http_credentials", path("credentials")));
        }
        if self.setting.domain_socket {
            flags.push(("http_executor_domain_sockets", "true".to_owned()));
            flags.push(("domain_socket_location", path("executors.sock")));
        }
        self.agent = Some(Daemon::start(
            "mesos-agent",
            self.ports[1],
            &directory,
            &flags,
        ));
        ready(self.ports[1], "slave/registered");
    }

    fn cgroups_root(&self) -> String {
        format!("dewar-test-mesos-{}", self.ports[1])
    }

    /// Ends the agent; with SIGUSR1 it destroys its containers first.
    pub fn end_agent(&mut self, with: Signal) {
        if let Some(mut agent) = self.agent.take() {
            agent.end(with);
        }
    }

    /// The agent leaves its own groups behind.
    fn remove_cgroups(&self) {
        let hierarchies = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        for hierarchy in hierarchies {
            remove_groups(&hierarchy.path().join(self.cgroups_root()));
        }
    }

    fn executor(&self) -> Value {
        let wire = if self.setting.json {
            " --wire json"
        } else {
            ""
        };
        let command = format!(
            "exec {} --root {} executor{wire}",
            env!("CARGO_BIN_EXE_dewar"),
            self.bench.root().display()
        );
        let scalar = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
        json!({
            "type": "CUSTOM", "executor_id": {"value": EXECUTOR},
            "framework_id": {"value": self.scheduler.framework()},
            "command": {"value": command},
            "resources": [scalar("cpus", 0.1), scalar("mem", 32.0), scalar("disk", 32.0)],
        })
    }
}

fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    if group.exists() {
        // One that is still in use is found when what is left is counted.
        let _ = fs::remove_dir(group);
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Waits until a metric of a daemon is 1.
pub fn ready(port: u16, metric: &str) {
    wait_for(metric, || {
        let (_, headers, mut reader) = request(port, "GET /metrics/snapshot", b"").ok()?;
        let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        let metrics: Value = serde_json::from_slice(&body).ok()?;
        (metrics[metric] == 1.0).then_some(())
    });
}

impl Real {
    /// The framework ends, and with it everything that it runs.
    pub fn teardown(&self) {
        let framework = self.scheduler.framework();
        self.scheduler.send(&framework, "TEARDOWN", json!({}));
    }
}

impl Stage for Real {
    fn bench(&self) -> &Bench {
        &self.bench
    }

    fn launch(&mut self, tasks: &[Spec], as_group: bool) {
        let offer = wait_for("an offer", || {
            self.scheduler.heard.lock().expect("a lock").offers.pop()
        });
        self.agent_id = Some(offer["agent_id"].clone());
        let executor = self.executor();
        let infos: Vec<Value> = tasks
            .iter()
            .map(|spec| {
                let mut info = info(spec);
                // No ports are no resource.
                info.resources.retain(|one| {
                    one.ranges
                        .as_ref()
                        .is_none_or(|ranges| !ranges.range.is_empty())
                });
                let bytes = Wire::Json.encode(&info).expect("JSON");
                let mut info: Value = serde_json::from_slice(&bytes).expect("JSON");
                info["agent_id"] = offer["agent_id"].clone();
                // A task has an executor or a command, and ours always has an executor.
                if !as_group {
                    info["executor"] = executor.clone();
                }
                info
            })
            .collect();
        let operation = match as_group {
            true => json!({"type": "LAUNCH_GROUP", "launch_group": {
                "executor": executor, "task_group": {"tasks": infos}}}),
            false => json!({"type": "LAUNCH", "launch": {"task_infos": infos}}),
        };
        let framework = self.scheduler.framework();
        self.scheduler.send(
            &framework,
            "ACCEPT",
            json!({"accept": {
                "offer_ids": [offer["id"]], "operations": [operation],
                "filters": {"refuse_seconds": 0.05},
            }}),
        );
    }

    fn kill(&self, task: &str, grace: Option<Duration>) {
        let mut kill = json!({"task_id": {"value": task}});
        if let Some(grace) = grace {
            kill["kill_policy"] = json!({"grace_period": {"nanoseconds": grace.as_nanos() as u64}});
        }
        let framework = self.scheduler.framework();
        self.scheduler
            .send(&framework, "KILL", json!({"kill": kill}));
    }

    fn shutdown(&self) {
        let framework = self.scheduler.framework();
        self.scheduler.send(
            &framework,
            "SHUTDOWN",
            json!({"shutdown": {
            "executor_id": {"value": EXECUTOR}, "agent_id": self.agent_id}}),
        );
    }

    fn agent_down(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.end(Signal::SIGKILL);
        }
    }

    fn agent_up(&mut self) {
        self.start_agent();
    }

    fn updates(&self) -> Vec<TaskStatus> {
        self.scheduler.heard.lock().expect("a lock").updates.clone()
    }

    fn sandbox(&self) -> PathBuf {
        let only = |directory: PathBuf| {
            let mut entries = fs::read_dir(directory).ok()?.flatten();
            entries.next().map(|entry| entry.path())
        };
        let agent = self.bench.path().join("agent/slaves");
        wait_for("the container's sandbox", || {
            let framework = only(only(agent.clone())?.join("frameworks"))?;
            let runs = framework
                .join("executors")
                .join(EXECUTOR)
                .join("runs/latest");
            fs::canonicalize(runs).ok()
        })
    }

    fn is_executor_gone(&self) -> bool {
        let mark = format!("MESOS_SANDBOX={}", self.sandbox().display());
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        !entries.into_iter().any(|entry| {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            variables.any(|variable| variable == mark.as_bytes())
        })
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        // With SIGUSR1 an agent destroys its containers before it leaves.
        if let Some(agent) = &mut self.agent {
            agent.end(Signal::SIGUSR1);
        }
        if !std::thread::panicking() {
            wait_for("the executor to be gone", || {
                self.is_executor_gone().then_some(())
            });
        }
        self.remove_cgroups();
    }
}
