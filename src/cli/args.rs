//! What may be written on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{job::JobArgs, verbs::scheduler::SchedulerArgs};
use crate::{
    mesos::{fakes::agent::ScheduledFault, protocol::Wire},
    task::{Bytes, Level, Period, StopSignal},
};

/// Runs tasks: DAGs of processes in one sandbox, with logs, retries and finalizers. A task survives
/// the death of any process of dewar.
#[derive(Debug, Parser)]
#[command(name = "dewar", version, max_term_width = 100)]
pub(super) struct Cli {
    /// Where tasks are kept [default: /var/lib/dewar for root, else ~/.local/state/dewar]
    #[arg(long, global = true, env = "DEWAR_ROOT", value_name = "DIR")]
    pub root: Option<PathBuf>,

    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run a task file and follow it to its end
    #[command(after_help = "Examples:
  dewar run web.yaml
  dewar run web.yaml --port http=8080 --set version=1.2
  dewar run web.yaml --detach        # prints the task's id; then: dewar attach ID
  dewar run web.yaml --isolation private --enforce-task

Ctrl-C stops the task gracefully; a second one kills it at once.
Exit codes: 0 SUCCESS, 1 FAILED, 2 rejected, 3 KILLED, 4 LOST.")]
    Run(RunArgs),
    /// Show the tasks of this machine, or one of them
    #[command(after_help = "Examples:
  dewar status
  dewar status web-20261123-120000.000001
  dewar status --format json | jq '.tasks[].state'")]
    Status(StatusArgs),
    /// Show the output of a task's processes
    #[command(after_help = "Examples:
  dewar tail ID                # the last lines of every process
  dewar tail ID web -f         # follow one process until the task ends")]
    Tail(TailArgs),
    /// End a task: SIGTERM, then its final processes, then SIGKILL to what is left
    #[command(after_help = "Examples:
  dewar kill ID
  dewar kill ID --wait 5       # instead of the task's finalization_wait
  dewar kill ID --now          # SIGKILL at once, no final processes")]
    Kill(KillArgs),
    /// Run a process of a task anew: its present run is KILLED, the next starts at once
    #[command(after_help = "Examples:
  dewar restart ID web

The stop signal first, SIGKILL after stop_timeout. Earlier failures do not count any more; back-off
begins anew. Returns when the next run runs (0) or could not (1). Only while the task is ACTIVE.")]
    Restart(RestartArgs),
    /// Send a signal to the first process of a running process
    #[command(after_help = "Examples:
  dewar signal ID web HUP
  dewar signal ID web SIGUSR1

What it does to the process is the process' own; one that ends of it is KILLED and run again.")]
    Signal(SignalArgs),
    /// Say why a process is in its state
    #[command(after_help = "Examples:
  dewar explain ID web
  dewar explain ID --format json | jq '.[].why'")]
    Explain(ExplainArgs),
    /// Show the graph of a task file or a task, and the critical path of one that is over
    #[command(after_help = "Examples:
  dewar graph web.yaml
  dewar graph ID
  dewar graph web.yaml --format dot | dot -Tsvg > web.svg")]
    Graph(GraphArgs),
    /// Remove what tasks left that are over
    #[command(after_help = "Examples:
  dewar gc                                   # what ended more than 7 days ago
  dewar gc --older-than 1d --keep 20 --dry-run
  dewar gc --max-bytes 10GB

A directory that was given by --sandbox is never touched, nor is a task that is not over.")]
    Gc(GcArgs),
    /// Follow a task that is already running
    #[command(after_help = "Examples:
  dewar attach ID
  dewar attach ID --format json

Ctrl-C ends the watching, not the task.")]
    Attach(AttachArgs),
    /// Wait for a task's end and exit with its code
    #[command(after_help = "Examples:
  dewar run job.yaml --detach --id job && dewar wait job")]
    Wait(WaitArgs),
    /// Run one command as a task
    #[command(after_help = "Examples:
  dewar simplerun -- make -j2 test
  dewar simplerun --name backup -- 'tar -czf /backup/home.tgz /home && echo done'

The words are joined by spaces and given to bash.")]
    Simplerun(SimplerunArgs),
    /// What a Mesos agent starts: runs the tasks that the agent hands over
    #[command(
        after_help = "Give an agent's framework this command in its ExecutorInfo:
  exec /usr/local/bin/dewar executor

Everything else comes from the agent, in MESOS_* variables."
    )]
    Executor(ExecutorArgs),
    /// Run a task file through the executor over real HTTP, without Mesos
    #[command(after_help = "Examples:
  dewar fake-agent web.yaml
  dewar fake-agent web.yaml --wire json --fault 500ms:drop --fault 1s:down=2s

A fault is TIME:WHAT; WHAT is drop, down=TIME, refuse=N, mute=N, late=TIME, duplicate,
pieces=BYTES, garbage, kill or shutdown. Ctrl-C kills the task as a scheduler would.
Exit codes: as `run`.")]
    FakeAgent(FakeAgentArgs),
    /// Run jobs of many instances on a Mesos cluster
    #[command(after_help = "Examples:
  dewar scheduler --master 10.0.0.1:5050
  dewar scheduler --master m1:5050,m2:5050,m3:5050 --listen 0.0.0.0:8080 --host scheduler.example.com

A second one with the same --root waits and takes its place. SIGTERM ends it; tasks go on.")]
    Scheduler(Box<SchedulerArgs>),
    /// Ask a scheduler: create, update, watch, scale, restart and kill jobs
    #[command(after_help = "Examples:
  dewar job create web.job.yaml
  dewar job status
  dewar job --scheduler 10.0.0.9:8080 --token-file token status www/prod/web")]
    Job(Box<JobArgs>),
    /// Check a task file: every mistake, with its place
    #[command(after_help = "Examples:
  dewar validate web.yaml
  dewar validate web.yaml --set version=1.2")]
    Validate(ValidateArgs),
    /// Print a task as it would run, fully resolved
    #[command(after_help = "Examples:
  dewar inspect web.yaml | jq .processes")]
    Inspect(InspectArgs),
    /// Say what this machine can enforce, as which user, by which mechanism
    #[command(after_help = "Examples:
  dewar doctor
  dewar doctor --format json | jq '.limits[] | select(.available | not)'")]
    Doctor(DoctorArgs),
    /// Print the JSON Schema of task files (or job files), for editors
    #[command(after_help = "Examples:
  dewar schema > dewar.schema.json
  # then, as the first line of a task file:
  # yaml-language-server: $schema=./dewar.schema.json")]
    Schema(SchemaArgs),
    /// Print completions for a shell
    #[command(after_help = "Examples:
  dewar completions bash > /etc/bash_completion.d/dewar
  dewar completions zsh > ~/.zfunc/_dewar
  dewar completions fish > ~/.config/fish/completions/dewar.fish")]
    Completions(CompletionsArgs),
    /// Print the manual page, or write all pages into a directory
    #[command(after_help = "Examples:
  dewar man | man -l -
  dewar man /usr/local/share/man/man1")]
    Man(ManArgs),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// live on a terminal, else plain
    Auto,
    /// A table that redraws itself
    Live,
    /// One line an event
    Plain,
    /// One JSON object an event
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StatusFormat {
    /// For people
    Text,
    /// One JSON object
    Json,
}

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Of job files
    #[arg(long)]
    pub job: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExecutorArgs {
    /// How to talk to the agent
    #[arg(long, value_enum, default_value = "protobuf")]
    pub wire: Wire,
    #[command(flatten)]
    pub bounds: BoundArgs,
}

#[derive(Debug, Args)]
pub(super) struct FakeAgentArgs {
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

/// What a task file's templates are bound to.
#[derive(Debug, Args)]
pub(super) struct BindingArgs {
    /// Of several tasks in the file, the one to use
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    /// Bind a template variable
    // -E is how Thermos spelt it.
    #[arg(long = "set", short_alias = 'E', value_name = "NAME=VALUE", value_parser = pair)]
    pub sets: Vec<(String, String)>,
    /// Give a named port; one that is not given is allocated
    // -P NAME:PORT is how Thermos spelt it.
    #[arg(long = "port", short_alias = 'P', value_name = "NAME=NUMBER", value_parser = port)]
    pub ports: Vec<(String, u16)>,
}

/// What the task may use and see.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct BoundArgs {
    /// How far the task is kept from this machine: directory or private [default: what the file says]
    #[arg(long, value_name = "LEVEL")]
    pub isolation: Option<Level>,
    /// Hold the task as a whole to its `resources`
    #[arg(long)]
    pub enforce_task: bool,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The task file, YAML or JSON; - for standard input
    pub file: PathBuf,
    #[command(flatten)]
    pub bindings: BindingArgs,
    /// The task's id [default: NAME-YYYYmmdd-HHMMSS.usec]
    #[arg(long, alias = "task_id", value_name = "ID")]
    pub id: Option<String>,
    /// The sandbox's directory; used as it is when it exists
    #[arg(long, value_name = "DIR")]
    pub sandbox: Option<PathBuf>,
    /// Return as soon as the task is on its way
    #[arg(long, alias = "daemon")]
    pub detach: bool,
    /// Give the processes this environment too
    #[arg(long)]
    pub preserve_env: bool,
    #[command(flatten)]
    pub bounds: BoundArgs,
    /// How to show what happens
    #[arg(long, value_enum, default_value = "auto")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// One task only
    pub id: Option<String>,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    pub format: StatusFormat,
}

#[derive(Debug, Args)]
pub(super) struct TailArgs {
    /// The task
    pub id: String,
    /// One process only
    pub process: Option<String>,
    /// Go on until the task ends
    #[arg(short, long)]
    pub follow: bool,
    /// Lines to begin with, per file
    #[arg(short = 'n', long, default_value_t = 10)]
    pub lines: usize,
}

#[derive(Debug, Args)]
pub(super) struct KillArgs {
    /// The task
    pub id: String,
    /// SIGKILL at once, no final processes
    #[arg(long)]
    pub now: bool,
    /// Seconds, instead of the task's finalization_wait
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct SimplerunArgs {
    /// What is run
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<String>,
    /// The name of the task and its process
    #[arg(long, default_value = "simple")]
    pub name: String,
    /// Who runs it [default: you]
    #[arg(long)]
    pub user: Option<String>,
    /// Bind a template variable
    #[arg(long = "set", short_alias = 'E', value_name = "NAME=VALUE", value_parser = pair)]
    pub sets: Vec<(String, String)>,
    /// Give a named port; one that is not given is allocated
    #[arg(long = "port", short_alias = 'P', value_name = "NAME=NUMBER", value_parser = port)]
    pub ports: Vec<(String, u16)>,
    /// The task's id [default: NAME-YYYYmmdd-HHMMSS.usec]
    #[arg(long, alias = "task_id", value_name = "ID")]
    pub id: Option<String>,
    /// The sandbox's directory; used as it is when it exists
    #[arg(long, value_name = "DIR")]
    pub sandbox: Option<PathBuf>,
    /// Return as soon as the task is on its way
    #[arg(long, alias = "daemon")]
    pub detach: bool,
    /// Give it this environment too
    #[arg(long)]
    pub preserve_env: bool,
    #[command(flatten)]
    pub bounds: BoundArgs,
    /// How to show what happens
    #[arg(long, value_enum, default_value = "auto")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(super) struct RestartArgs {
    /// The task
    pub id: String,
    /// Its process
    pub process: String,
}

#[derive(Debug, Args)]
pub(super) struct SignalArgs {
    /// The task
    pub id: String,
    /// Its process
    pub process: String,
    /// By name or number: HUP, SIGUSR1, 15
    #[arg(value_name = "SIGNAL")]
    pub signal: StopSignal,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The task
    pub id: String,
    /// One process only
    pub process: Option<String>,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    pub format: StatusFormat,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    pub format: StatusFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum GraphFormat {
    /// For people
    Text,
    /// For Graphviz
    Dot,
}

#[derive(Debug, Args)]
pub(super) struct GraphArgs {
    /// A task file (- for standard input), or the id of a task
    #[arg(value_name = "FILE|ID")]
    pub what: String,
    #[command(flatten)]
    pub bindings: BindingArgs,
    /// How to draw it
    #[arg(long, value_enum, default_value = "text")]
    pub format: GraphFormat,
}

#[derive(Debug, Args)]
pub(super) struct GcArgs {
    /// Remove tasks that ended longer ago than this, for example 36h [default, if no limit is given: 7d]
    #[arg(long, value_name = "TIME")]
    pub older_than: Option<Period>,
    /// Keep at most so many tasks that are over, the newest
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Keep at most so many bytes of tasks that are over, the newest
    #[arg(long, value_name = "SIZE")]
    pub max_bytes: Option<Bytes>,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// For which shell
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Where all pages go
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// The task
    pub id: String,
    /// How to show what happens
    #[arg(long, value_enum, default_value = "auto")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// The task
    pub id: String,
}

#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// The task file, YAML or JSON; - for standard input
    pub file: PathBuf,
    #[command(flatten)]
    pub bindings: BindingArgs,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The task file, YAML or JSON; - for standard input
    pub file: PathBuf,
    #[command(flatten)]
    pub bindings: BindingArgs,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    match name.is_empty() {
        true => Err("the name is empty".to_owned()),
        false => Ok((name.to_owned(), value.to_owned())),
    }
}

fn port(text: &str) -> Result<(String, u16), String> {
    let (name, number) = match text.split_once(':') {
        Some((name, number)) if !name.contains('=') => pair(&format!("{name}={number}"))?,
        _ => pair(text)?,
    };
    match number.parse() {
        Ok(0) | Err(_) => Err(format!("{number:?} is no port number (1 to 65535)")),
        Ok(number) => Ok((name, number)),
    }
}

/// Seconds or a duration, as microseconds.
fn seconds(text: &str) -> Result<u64, String> {
    let period: crate::task::Period = text.parse().map_err(str::to_owned)?;
    Ok(period.as_micros())
}
