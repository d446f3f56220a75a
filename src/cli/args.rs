//! What may be written on the command line: the table of contents. The arguments of a verb are
//! beside it, in `verbs/`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{
    job::JobArgs,
    verbs::{
        attach::{AttachArgs, WaitArgs},
        doctor::DoctorArgs,
        executor::ExecutorArgs,
        explain::ExplainArgs,
        fake_agent::FakeAgentArgs,
        gc::GcArgs,
        generate::{CompletionsArgs, ManArgs, SchemaArgs},
        graph::GraphArgs,
        inspect::InspectArgs,
        kill::KillArgs,
        restart_and_signal::{RestartArgs, SignalArgs},
        run::RunArgs,
        scheduler::SchedulerArgs,
        simplerun::SimplerunArgs,
        status::StatusArgs,
        tail::TailArgs,
        validate::ValidateArgs,
    },
};

/// Runs tasks: DAGs of processes in one sandbox, with logs, retries and finalizers. A task survives
/// the death of any process of dewar.
#[derive(Debug, Parser)]
#[command(name = "dewar", version, max_term_width = 100)]
pub(super) struct Cli {
    #[command(flatten)]
    pub own: OwnArgs,

    #[command(subcommand)]
    pub verb: Verb,
}

/// What may be said with every verb.
#[derive(Debug, Args)]
pub(super) struct OwnArgs {
    /// Where tasks are kept [default: /var/lib/dewar for root, else ~/.local/state/dewar]
    #[arg(long, global = true, env = "DEWAR_ROOT", value_name = "DIR")]
    pub root: Option<PathBuf>,
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
    /// Print the JSON Schema of task files (or job files, or of output)
    #[command(after_help = "Examples:
  dewar schema > dewar.schema.json
  # then, as the first line of a task file:
  # yaml-language-server: $schema=./dewar.schema.json
  dewar schema --output > dewar.output.schema.json")]
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
