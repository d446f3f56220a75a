//! `dewar fake-agent`: runs a task file by the executor over real HTTP, without Mesos.

use std::{
    io::Read,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::run::default_id;
use crate::{
    cli::{
        failure::{Code, Failure, Outcome},
        flags::{BindingArgs, BoundArgs},
        task_file::{TaskFile, allocate_ports, hostname},
        terminal::{complain, harmless, print},
    },
    config::Bindings,
    mesos::{
        fakes::agent::{Container, FakeAgent, Fault, Options, ScheduledFault},
        protocol::{
            self, Wire,
            messages::{AgentId, TaskId, TaskInfo, TaskState, TaskStatus, task_status::Reason},
        },
    },
    sandbox::Account,
};

#[derive(Debug, Args)]
pub(crate) struct FakeAgentArgs {
    /// A task in YAML or JSON
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How the executor talks to the agent
    #[arg(long, value_enum, default_value = "protobuf")]
    pub wire: Wire,
    /// Break something: TIME:WHAT, for example 500ms:drop (repeatable)
    #[arg(long = "fault", value_name = "TIME:WHAT")]
    pub faults: Vec<ScheduledFault>,
    /// Let the executor prove who it is with this token
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Listen at a socket, not at a port
    #[arg(long)]
    pub domain_socket: bool,
    #[command(flatten)]
    pub bounds: BoundArgs,
    /// The container's sandbox, which is kept [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub sandbox: Option<PathBuf>,
}

/// An executor exits one second after its last acknowledgement; this is the time that it gets.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);
/// A time-out that is not reached: the other threads send what happens.
const LONG: Duration = Duration::from_secs(3600);

/// What may happen while the task runs.
enum News {
    Update(Box<TaskStatus>),
    Stop,
    Fault(Fault),
    /// The time is over in which the agent was away.
    Back,
    ExecutorDied,
}

pub(crate) fn fake_agent(args: &FakeAgentArgs, root: &Path) -> Outcome {
    let info = task_info(&args.file)?;
    let scratch = tempfile::TempDir::with_prefix("dewar-agent-").map_err(Failure::internal)?;
    let sandbox = match &args.sandbox {
        Some(path) => std::path::absolute(path).map_err(Failure::rejected)?,
        None => scratch.path().join("sandbox"),
    };
    if sandbox.join(".dewar").exists() {
        let message = format!("an executor has used {} before", sandbox.display());
        return Err(Failure::rejected(message).hint("give another --sandbox DIR"));
    }
    let agent = FakeAgent::start(Options {
        token: args.token.clone(),
        socket: args
            .domain_socket
            .then(|| scratch.path().join("agent.sock")),
        ..Options::default()
    });
    let agent = Arc::new(agent.map_err(Failure::internal)?);
    let mut command = vec![
        crate::sys::executable::executable(),
        "--root".to_owned(),
        root.display().to_string(),
        "executor".to_owned(),
        "--wire".to_owned(),
        match args.wire {
            Wire::Protobuf => "protobuf".to_owned(),
            Wire::Json => "json".to_owned(),
        },
    ];
    command.extend(args.bounds.words());
    let id = info.task_id.value.clone();
    agent.launch(vec![info], false);
    let container = Container::launch(&command, &sandbox, &agent.environment(&sandbox));
    let container = Arc::new(container.map_err(Failure::internal)?);
    if args.sandbox.is_some() {
        complain(&format!("sandbox {}", sandbox.display()));
    }
    let (send, news) = mpsc::channel();
    watch_updates(Arc::clone(&agent), send.clone());
    watch_signals(send.clone()).map_err(Failure::internal)?;
    watch_executor(Arc::clone(&container), send.clone());
    schedule(&args.faults, &send);
    let end = follow(&agent, &container, &id, &news, &send);
    if end == Code::Failed {
        // The executor says in this file why it failed.
        if let Ok(said) = std::fs::read_to_string(sandbox.join("stderr"))
            && !said.is_empty()
        {
            complain(said.trim_end());
        }
    }
    // There are no more updates; the executor itself has still to exit.
    if !container
        .wait_dead(LEAVES_WITHIN)
        .map_err(Failure::internal)?
    {
        complain("the executor did not leave; killing it");
    }
    Ok(end)
}

/// Shows what happens until the task is over.
fn follow(
    agent: &FakeAgent,
    container: &Container,
    id: &str,
    news: &mpsc::Receiver<News>,
    send: &mpsc::Sender<News>,
) -> Code {
    let began = Instant::now();
    let mut stops = 0;
    while let Ok(one) = news.recv() {
        match one {
            News::Update(status) => {
                show(&status, began.elapsed());
                if let Some(code) = code_of(&status) {
                    return code;
                }
            }
            News::Stop => {
                stops += 1;
                let grace = (stops > 1).then_some(Duration::ZERO);
                agent.kill(id, grace);
            }
            News::Fault(fault) => {
                note(began.elapsed(), &format!("fault: {fault:?}"));
                agent.inflict(fault);
                if let Fault::Down(duration) = fault {
                    later(duration, News::Back, send.clone());
                }
            }
            News::Back => {
                note(began.elapsed(), "the agent is back");
                agent.come_back();
            }
            News::ExecutorDied => {
                note(
                    began.elapsed(),
                    &format!("the executor (pid {}) died", container.pid()),
                );
                agent.executor_gone();
            }
        }
    }
    Code::Internal
}

/// The file as a scheduler would send it, checked first as `run` checks it.
fn task_info(path: &Path) -> Result<TaskInfo, Failure> {
    let bindings = BindingArgs {
        task: None,
        sets: Vec::new(),
        ports: Vec::new(),
    };
    let file = TaskFile::read(path, &bindings)?;
    let ports = allocate_ports(&file.ports(), &[])?;
    let resolved = file.resolve(&Bindings {
        task_id: "fake".to_owned(),
        user: Account::own().name,
        instance: 0,
        hostname: hostname(),
        ports: ports.clone(),
        sets: std::collections::BTreeMap::new(),
    })?;
    let name = resolved.task.name;
    Ok(TaskInfo {
        task_id: TaskId {
            value: default_id(&name),
        },
        name,
        agent_id: AgentId {
            value: "fake-agent".to_owned(),
        },
        resources: vec![protocol::ports(ports.into_values())],
        data: Some(file.source().as_bytes().to_vec()),
        ..TaskInfo::default()
    })
}

fn show(status: &TaskStatus, after: Duration) {
    let state = status.state().as_str_name().trim_start_matches("TASK_");
    let mut line = format!("{:9.3}s  {state}", after.as_secs_f64());
    if status.reason.is_some() {
        line += &format!("  {}", status.reason().as_str_name());
    }
    if let Some(message) = &status.message {
        line += &format!("  {}", harmless(message));
    }
    print(&line);
}

fn note(after: Duration, text: &str) {
    complain(&format!("{:9.3}s  {text}", after.as_secs_f64()));
}

fn code_of(status: &TaskStatus) -> Option<Code> {
    Some(match status.state() {
        TaskState::TaskFinished => Code::Success,
        TaskState::TaskFailed if status.reason == Some(Reason::TaskInvalid.into()) => {
            Code::Rejected
        }
        TaskState::TaskFailed => Code::Failed,
        TaskState::TaskKilled => Code::Killed,
        TaskState::TaskLost => Code::Lost,
        TaskState::TaskError => Code::Rejected,
        _ => return None,
    })
}

fn watch_updates(agent: Arc<FakeAgent>, send: mpsc::Sender<News>) {
    thread::spawn(move || {
        let mut seen = 0;
        while agent.wait(LONG, |updates| updates.len() > seen) {
            for status in agent.updates().into_iter().skip(seen) {
                seen += 1;
                // The receiver is dropped at the end.
                if send.send(News::Update(Box::new(status))).is_err() {
                    return;
                }
            }
        }
    });
}

fn watch_signals(send: mpsc::Sender<News>) -> std::io::Result<()> {
    let (mut read, write) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGINT, write.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGTERM, write)?;
    thread::spawn(move || {
        let mut byte = [0];
        while read.read_exact(&mut byte).is_ok() && send.send(News::Stop).is_ok() {}
    });
    Ok(())
}

fn watch_executor(container: Arc<Container>, send: mpsc::Sender<News>) {
    thread::spawn(move || {
        match container.wait_dead(LONG) {
            // The receiver is dropped at the end.
            Ok(true) => drop(send.send(News::ExecutorDied)),
            Ok(false) => {}
            Err(error) => tracing::error!("cannot watch the executor: {error}"),
        }
    });
}

fn schedule(faults: &[ScheduledFault], send: &mpsc::Sender<News>) {
    for one in faults {
        later(one.at, News::Fault(one.fault), send.clone());
    }
}

fn later(after: Duration, news: News, send: mpsc::Sender<News>) {
    thread::spawn(move || {
        thread::sleep(after);
        // The receiver is dropped at the end.
        let _ = send.send(news);
    });
}
