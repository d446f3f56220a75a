//! The entry: a root is forked off before anything else, then the verb is looked up.

use std::{io, os::fd::OwnedFd, os::unix::net::UnixStream, path::PathBuf, process::ExitCode};

use clap::Parser;

use super::{
    args::{Cli, Verb},
    failure::{Code, Failure, Outcome},
    job,
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
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some(RUNNER_VERB) => return exec_runner(&LOCAL, words.collect()),
        Some(EXECUTOR_RUNNER_VERB) => return exec_runner(&EXECUTOR_RUNNER, words.collect()),
        Some(ROOT_VERB) => return exec_root(),
        _ => {}
    }
    // Before this process has touched any memory: root and keeper live in a copy of it.
    let wants_root = std::env::args_os().any(|word| word == "run" || word == "simplerun");
    let root = match wants_root.then(|| fork_root(&LOCAL)).transpose() {
        Ok(root) => root,
        Err(error) => {
            complain(&format!("error: cannot fork: {error}"));
            return Code::Internal.into();
        }
    };
    // Whoever runs a cluster wants to know who asked for what.
    let is_scheduler = std::env::args_os().any(|word| word == "scheduler");
    trace::start_with(match is_scheduler {
        true => tracing::Level::INFO,
        false => tracing::Level::WARN,
    });
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; everything else is a usage error.
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
    match dispatch(cli, root) {
        Ok(code) => code.into(),
        Err(failure) => {
            failure.report();
            failure.code.into()
        }
    }
}

fn dispatch(cli: Cli, root: Option<ForkedRoot>) -> Outcome {
    let store = || directory(cli.root.clone()).map(Store::new);
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
        Verb::Completions(args) => generate::completions(&args),
        Verb::Man(args) => generate::man(&args),
        Verb::Attach(args) => attach::attach(&store()?, &args),
        Verb::Wait(args) => attach::wait(&store()?, &args),
        Verb::Executor(args) => {
            // Without a home there is no default: then its tasks are not shown.
            executor::executor(&args, directory(cli.root.clone()).ok().as_deref())
        }
        Verb::FakeAgent(args) => fake_agent::fake_agent(&args, &directory(cli.root.clone())?),
        Verb::Scheduler(args) => scheduler::scheduler(*args, &directory(cli.root.clone())?),
        Verb::Job(args) => job::job(*args, &directory(cli.root.clone())?),
        Verb::Validate(args) => validate::validate(&args),
        Verb::Inspect(args) => inspect::inspect(&args),
    }
}

/// Where tasks are kept.
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

fn exec_runner(kind: &RunnerKind, words: Vec<String>) -> ExitCode {
    trace::start();
    match RunnerSetup::from_arguments(&words) {
        Ok(setup) => ExitCode::from((kind.main)(setup)),
        Err(_) => {
            complain(&format!("error: {} is for dewar itself", kind.verb));
            Code::Rejected.into()
        }
    }
}

fn exec_root() -> ExitCode {
    trace::start();
    let socket = rustix_stdin().and_then(|fd| {
        let socket = UnixStream::from(fd);
        // Only a socket has a peer.
        socket.peer_addr().map(|_| socket)
    });
    match socket {
        Ok(socket) => ExitCode::from(root_main(socket, &LOCAL)),
        Err(_) => {
            complain(&format!("error: {ROOT_VERB} is for dewar itself"));
            Code::Rejected.into()
        }
    }
}

fn rustix_stdin() -> io::Result<OwnedFd> {
    use std::os::fd::AsFd;
    io::stdin().as_fd().try_clone_to_owned()
}
