//! What may be written on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{fake_agent::ScheduledFault, mesos::Wire};

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
    /// Follow a task that is already running
    Attach(AttachArgs),
    /// Wait for a task's end and exit with its code
    Wait(WaitArgs),
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
    /// Check a task file: every mistake, with its place
    Validate(ValidateArgs),
    /// Print a task as it would run, fully resolved
    Inspect(InspectArgs),
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
pub(super) struct ExecutorArgs {
    /// How to talk to the agent
    #[arg(long, value_enum, default_value = "protobuf")]
    pub wire: Wire,
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
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub sets: Vec<(String, String)>,
    /// Give a named port; one that is not given is allocated
    #[arg(long = "port", value_name = "NAME=NUMBER", value_parser = port)]
    pub ports: Vec<(String, u16)>,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The task file, YAML or JSON; - for standard input
    pub file: PathBuf,
    #[command(flatten)]
    pub bindings: BindingArgs,
    /// The task's id [default: NAME-YYYYmmdd-HHMMSS.usec]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// The sandbox's directory; used as it is when it exists
    #[arg(long, value_name = "DIR")]
    pub sandbox: Option<PathBuf>,
    /// Return as soon as the task is on its way
    #[arg(long)]
    pub detach: bool,
    /// Give the processes this environment too
    #[arg(long)]
    pub preserve_env: bool,
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
    let (name, number) = pair(text)?;
    match number.parse() {
        Ok(0) | Err(_) => Err(format!("{number:?} is no port number (1 to 65535)")),
        Ok(number) => Ok((name, number)),
    }
}

/// Seconds or a duration, as microseconds.
fn seconds(text: &str) -> Result<u64, String> {
    let period: crate::config::Period = text.parse().map_err(str::to_owned)?;
    Ok(period.as_micros())
}
