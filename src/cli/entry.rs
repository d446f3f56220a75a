//! The entry of the program: forks a root off where the verb wants one, before anything else, and
//! calls the verb.
//!
//! Only the verb decides; it is looked for once before clap (`early_verb`), and known by clap
//! after.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory, Parser};

use super::{
    args::{Cli, Verb},
    early_verb::early_verb,
    failure::{Code, Failure, Outcome},
    job,
    run_alone::run_alone,
    terminal::complain,
    verbs::{
        attach, doctor, executor, explain, fake_agent, gc, generate, graph, inspect, kill,
        restart_and_signal, run, scheduler, simplerun, status, tail, validate,
    },
};
use crate::{
    engine::{
        ipc::{ROOT_VERB, RUNNER_VERB, RunnerKind, RunnerSetup},
        keeper::{ForkedRoot, fork_root, root_main},
        runner::LOCAL,
        store::Store,
    },
    mesos::executor::{EXECUTOR_RUNNER, EXECUTOR_RUNNER_VERB},
    sys::trace,
};

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    match words.next().as_deref().and_then(OsStr::to_str) {
        Some(RUNNER_VERB) => return exec_runner(&LOCAL, words),
        Some(EXECUTOR_RUNNER_VERB) => return exec_runner(&EXECUTOR_RUNNER, words),
        Some(ROOT_VERB) => return exec_root(),
        _ => {}
    }
    // Root and keeper live in a copy of this process, so they are forked before it has touched much
    // memory.
    let verb = early_verb(std::env::args_os().skip(1));
    let root = match &verb {
        Some(verb) if *verb == *"run" || *verb == *"simplerun" => match fork_root(&LOCAL) {
            Ok(root) => Some(root),
            Err(error) => {
                complain(&format!("error: cannot fork: {error}"));
                return Code::Internal.into();
            }
        },
        _ => None,
    };
    let alone = verb.filter(|verb| verb == "run");
    let alone = alone.and_then(|_| run_alone(std::env::args_os()));
    let cli = match alone.map_or_else(Cli::try_parse, Ok) {
        Ok(cli) => cli,
        Err(error) => {
            // A request for help or the version is no error; everything else is a usage error.
            let code = if error.use_stderr() {
                Code::Rejected
            } else {
                Code::Success
            };
            if let Err(error) = error.print() {
                complain(&format!("error: {error}"));
            }
            return code.into();
        }
    };
    // Operators of a cluster want to know who asked for what.
    trace::start_with(match cli.verb {
        Verb::Scheduler(_) => tracing::Level::INFO,
        _ => tracing::Level::WARN,
    });
    match dispatch(cli, root) {
        Ok(code) => code.into(),
        Err(failure) => {
            failure.report();
            failure.code.into()
        }
    }
}

fn dispatch(cli: Cli, root: Option<ForkedRoot>) -> Outcome {
    let store = || directory(cli.own.root.clone()).map(Store::new);
    match cli.verb {
        Verb::Run(args) => run::run(&store()?, args, root),
        Verb::Simplerun(args) => simplerun::simplerun(&store()?, args, root),
        Verb::Status(args) => status::status(&store()?, &args),
        Verb::Tail(args) => tail::tail(&store()?, &args),
        Verb::Kill(args) => kill::kill(&store()?, &args),
        Verb::Restart(args) => restart_and_signal::restart(&store()?, &args),
        Verb::Signal(args) => restart_and_signal::signal(&store()?, &args),
        Verb::Explain(args) => explain::explain(&store()?, &args),
        Verb::Graph(args) => graph::graph(store, &args),
        Verb::Gc(args) => gc::gc(&store()?, &args),
        Verb::Doctor(args) => doctor::doctor(&args),
        Verb::Schema(args) => generate::schema(&args),
        Verb::Completions(args) => generate::completions(&args, Cli::command()),
        Verb::Man(args) => generate::man(&args, Cli::command()),
        Verb::Attach(args) => attach::attach(&store()?, &args),
        Verb::Wait(args) => attach::wait(&store()?, &args),
        Verb::Executor(args) => {
            // Without a home directory there is no default; then `dewar status` does not show its
            // tasks.
            executor::executor(&args, directory(cli.own.root.clone()).ok().as_deref())
        }
        Verb::FakeAgent(args) => fake_agent::fake_agent(&args, &directory(cli.own.root.clone())?),
        Verb::Scheduler(args) => scheduler::scheduler(*args, &directory(cli.own.root.clone())?),
        Verb::Job(args) => job::job(*args, &directory(cli.own.root.clone())?),
        Verb::Validate(args) => validate::validate(&args),
        Verb::Inspect(args) => inspect::inspect(&args),
    }
}

/// The directory in which tasks are kept.
fn directory(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(directory) = given {
        return std::path::absolute(directory).map_err(Failure::rejected);
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/dewar"));
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let state = set("XDG_STATE_HOME").map(PathBuf::from);
    let home = || set("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    match state.or_else(home) {
        Some(state) => Ok(state.join("dewar")),
        None => Err(Failure::rejected("neither XDG_STATE_HOME nor HOME is set")
            .hint("say where tasks are kept with --root DIR")),
    }
}

fn exec_runner(kind: &RunnerKind, words: impl Iterator<Item = OsString>) -> ExitCode {
    trace::start();
    let words: Result<Vec<String>, OsString> = words.map(OsString::into_string).collect();
    let setup = words.ok().map(|words| RunnerSetup::from_arguments(&words));
    match setup {
        Some(Ok(setup)) => ExitCode::from((kind.main)(setup)),
        _ => {
            complain(&format!("error: {} is for dewar itself", kind.verb));
            Code::Rejected.into()
        }
    }
}

fn exec_root() -> ExitCode {
    trace::start();
    match stdin_socket() {
        Ok(socket) => ExitCode::from(root_main(socket, &LOCAL)),
        Err(_) => {
            complain(&format!("error: {ROOT_VERB} is for dewar itself"));
            Code::Rejected.into()
        }
    }
}

/// What a client has connected to the standard input of a root.
fn stdin_socket() -> io::Result<UnixStream> {
    let fd: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let socket = UnixStream::from(fd);
    // Only a socket has a peer.
    socket.peer_addr()?;
    Ok(socket)
}
