//! The life of a runner's process: how it is set up, its loop, and the events that it waits for.
//!
//! What each event leads to is decided in the engine. A broken link to the keeper ends the runner;
//! only a journal that cannot be trusted ends the task too.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

use super::{
    clients::{Clients, is_allowed},
    engine::Engine,
    error::RunnerError,
    keeper_link::KeeperLink,
    steering::Steering,
};
use crate::{
    engine::ipc::{DISTRUST, RUNNER_VERB, RunnerKind, RunnerSetup, UNFIT},
    sys::{
        clock::now,
        memory::trim_code,
        restless::{Restless, SETTLE_US},
        timer::BootTimer,
    },
};

/// Memory is to be given back as the very last thing before the next long wait: code that runs
/// after that comes back into memory.
static TRIM: AtomicBool = AtomicBool::new(false);

/// How the runner of a task of `dewar run` is started: without a steering.
pub const LOCAL: RunnerKind = RunnerKind {
    verb: RUNNER_VERB,
    main: |setup| runner_main(setup, || None),
};

/// The life of a runner; `steering` is called within its runtime. Returns its exit code.
pub fn runner_main(setup: RunnerSetup, steering: fn() -> Option<Box<dyn Steering>>) -> u8 {
    let Err(error) = start(setup, steering) else {
        return 0;
    };
    tracing::error!("{error}");
    exit_code(&error)
}

/// The exit code, from which the keeper learns whether another runner could do better.
fn exit_code(error: &RunnerError) -> u8 {
    match error {
        RunnerError::Distrust(_) => DISTRUST,
        RunnerError::Beyond(_) | RunnerError::Later(_) => UNFIT,
        RunnerError::NewTask(_) | RunnerError::Link(_) | RunnerError::Io(_) => 70,
    }
}

fn start(
    setup: RunnerSetup,
    steering: fn() -> Option<Box<dyn Steering>>,
) -> Result<(), RunnerError> {
    // The runner dies with its keeper, even when it is stopped: the next keeper has its own runner.
    let keeper = nix::unistd::getppid();
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)?;
    if nix::unistd::getppid() != keeper {
        return Ok(());
    }
    nix::sys::prctl::set_name(c"dewar-runner").map_err(io::Error::from)?;
    // Clients take descriptors; a runner starts no process that could inherit the limit.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(io::Error::from)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(io::Error::from)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(|| {
            if TRIM.swap(false, Ordering::Relaxed) {
                trim_code();
            }
        })
        .build()?;
    runtime.block_on(async { run(setup, steering()).await })
}

async fn run(setup: RunnerSetup, steering: Option<Box<dyn Steering>>) -> Result<(), RunnerError> {
    let mut link = KeeperLink::new(setup.link)?;
    let listener = std::os::unix::net::UnixListener::from(setup.listener);
    let listener = UnixListener::from_std(listener)?;
    let (sender, mut requests) = mpsc::channel(64);
    let clients = Clients::new(sender);
    let (outcomes, mut ended) = mpsc::unbounded_channel();
    let welcome = link.first_report().await?;
    let mut engine = Engine::new(&setup.directory, clients, outcomes, steering, welcome)?;
    take_reports(&mut engine, &mut link)?;
    let timer = BootTimer::new()?;
    if let Some(client) = setup.client {
        let client = std::os::unix::net::UnixStream::from(client);
        client.set_nonblocking(true)?;
        engine.clients.add(UnixStream::from_std(client)?);
    }
    // After an error (mostly: no descriptors left) the runner accepts no client until something
    // happens.
    let mut accepts = true;
    let mut restless = Restless::begun(now().boot_us);
    loop {
        let wake_at = engine.decide()?;
        link.send(engine.take_batch())?;
        if engine.is_over() {
            break;
        }
        let clock = now().boot_us;
        if restless.is_overdue(clock) {
            give_back(&mut engine, &mut link, &mut restless);
        }
        let rest_at = restless.is_restless().then_some(clock + SETTLE_US);
        timer.set(wake_at.into_iter().chain(rest_at).min())?;
        tokio::select! {
            ready = link.ready() => {
                if ready?.is_readable() && !link.receive()? {
                    // The keeper is gone, and its successor has a runner of its own.
                    return Ok(());
                }
                take_reports(&mut engine, &mut link)?;
            }
            fired = timer.fired() => {
                fired?;
                if rest_at.is_some_and(|at| at <= now().boot_us) {
                    give_back(&mut engine, &mut link, &mut restless);
                    continue;
                }
            }
            accepted = listener.accept(), if accepts && engine.clients.has_room() => {
                match accepted {
                    Ok((client, _)) if is_allowed(&client) => engine.clients.add(client),
                    Ok(_) => tracing::warn!("a client of another user was turned away"),
                    Err(error) => {
                        tracing::warn!("cannot accept a client: {error}");
                        accepts = false;
                        continue;
                    }
                }
            },
            Some(message) = requests.recv() => {
                engine.on_client(message);
                // A client that was let go gives its descriptor back before the next is accepted.
                tokio::task::yield_now().await;
            }
            () = steering_event(&mut engine.steering) => {}
            Some(outcome) = ended.recv() => engine.on_outcome(outcome),
        }
        accepts = true;
        restless.stir(now().boot_us);
    }
    // Every line must get out to clients that read. The keeper ends the runner in time, so a client
    // that does not read holds up nothing.
    drop(requests);
    engine.clients.finish().await;
    Ok(())
}

/// Gives memory back, the code right before the next wait.
fn give_back(engine: &mut Engine, link: &mut KeeperLink, restless: &mut Restless) {
    engine.undurable.shrink_to_fit();
    link.shrink_to_fit();
    TRIM.store(true, Ordering::Relaxed);
    restless.settle();
}

/// Waits until the steering has taken in something from outside.
async fn steering_event(steering: &mut Option<Box<dyn Steering>>) {
    match steering {
        Some(steering) => std::future::poll_fn(|context| steering.poll(context)).await,
        None => std::future::pending().await,
    }
}

/// Tells the engine of every whole report that has arrived.
fn take_reports(engine: &mut Engine, link: &mut KeeperLink) -> Result<(), RunnerError> {
    for report in link.reports()? {
        engine.on_report(report)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net};

    use super::*;
    use crate::engine::runner::error::Distrust;

    #[test]
    fn a_link_that_speaks_nonsense_costs_a_runner_and_not_the_task() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, mut keepers) = net::UnixStream::pair().unwrap();
        let listener = net::UnixListener::bind(directory.path().join("socket")).unwrap();
        for socket in [ours.set_nonblocking(true), listener.set_nonblocking(true)] {
            socket.unwrap();
        }
        keepers.write_all(&[0xff; 4]).unwrap();
        let setup = RunnerSetup {
            link: ours.into(),
            listener: listener.into(),
            directory: std::fs::File::open(directory.path()).unwrap().into(),
            client: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let error = runtime.block_on(run(setup, None)).unwrap_err();
        assert!(matches!(error, RunnerError::Link(_)), "{error}");
        assert_eq!(exit_code(&error), 70);
        assert_eq!(exit_code(&RunnerError::Distrust(Distrust::Empty)), DISTRUST);
    }
}
