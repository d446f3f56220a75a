//! The runner's life: its process, its loop, what it waits for. What happens then is the engine's.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

use super::{
    clients::{Clients, may_speak},
    engine::Engine,
    failure::RunnerError,
    overseer::Overseer,
};
use crate::{
    engine::ipc::{LinkBuffer, RUNNER_VERB, RunnerKind, RunnerSetup, messages},
    protocols::dewar::link as wire,
    sys::{
        clock::now,
        memory::{trim_code, trim_heap},
        timer::BootTimer,
    },
};

/// A pause of this length means that we mostly wait again, microseconds.
const SETTLE_US: u64 = 100_000;

/// How the runner of a person's task is started.
pub const LOCAL: RunnerKind = RunnerKind {
    verb: RUNNER_VERB,
    main: |setup| runner_main(setup, || None),
};

/// The life of a runner; `overseer` is made within its runtime. Returns its exit code.
pub fn runner_main(setup: RunnerSetup, overseer: fn() -> Option<Box<dyn Overseer>>) -> u8 {
    match live(setup, overseer) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!("{error}");
            error.exit_code()
        }
    }
}

fn live(
    setup: RunnerSetup,
    overseer: fn() -> Option<Box<dyn Overseer>>,
) -> Result<(), RunnerError> {
    // We die with our keeper, even when we are stopped: the next one has its own runner.
    let keeper = nix::unistd::getppid();
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)?;
    if nix::unistd::getppid() != keeper {
        return Ok(());
    }
    nix::sys::prctl::set_name(c"dewar-runner").map_err(io::Error::from)?;
    // Clients take descriptors; nothing is ever started from here that could inherit the limit.
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
    runtime.block_on(async { run(setup, overseer()).await })
}

/// More than what is sent in a busy moment, bytes.
const LARGE: usize = 128 << 10;

/// Memory is to be given back as the very last thing before the next long wait: whatever runs after
/// that comes back into memory.
static TRIM: AtomicBool = AtomicBool::new(false);

async fn run(setup: RunnerSetup, overseer: Option<Box<dyn Overseer>>) -> Result<(), RunnerError> {
    let stream = std::os::unix::net::UnixStream::from(setup.link);
    let link = UnixStream::from_std(stream)?;
    let listener = std::os::unix::net::UnixListener::from(setup.listener);
    let listener = UnixListener::from_std(listener)?;
    let mut inbox = LinkBuffer::default();
    let (heard, mut requests) = mpsc::channel(64);
    let clients = Clients::new(heard);
    let (ended, mut ends) = mpsc::unbounded_channel();
    let welcome = first_report(&link, &mut inbox).await?;
    let mut engine = Engine::new(&setup.directory, clients, ended, overseer, welcome)?;
    for report in messages::<wire::Report>(&mut inbox)? {
        engine.hear(report);
    }
    let timer = BootTimer::new()?;
    if let Some(client) = setup.client {
        let client = std::os::unix::net::UnixStream::from(client);
        client.set_nonblocking(true)?;
        engine.clients.add(UnixStream::from_std(client)?);
    }
    // After an error (no descriptors left, mostly) nobody is accepted until something happens.
    let mut accepts = true;
    let mut outbox: Vec<u8> = Vec::new();
    let mut is_restless = true;
    loop {
        let wake_at = engine.decide()?;
        outbox.extend(engine.take_batch());
        send(&link, &mut outbox)?;
        if outbox.is_empty() && outbox.capacity() > LARGE {
            // A snapshot was in it, for which the whole journal was read.
            outbox = Vec::new();
            trim_heap();
        }
        if engine.is_over() {
            break;
        }
        let rest_at = is_restless.then(|| now().boot_us + SETTLE_US);
        timer.set(wake_at.into_iter().chain(rest_at).min())?;
        let interest = match outbox.is_empty() {
            true => Interest::READABLE,
            false => Interest::READABLE | Interest::WRITABLE,
        };
        tokio::select! {
            ready = link.ready(interest) => {
                if ready?.is_readable() && !receive(&link, &mut inbox)? {
                    // The keeper is gone, and its successor has a runner of its own.
                    return Ok(());
                }
                for report in messages::<wire::Report>(&mut inbox)? {
                    engine.hear(report);
                }
            }
            fired = timer.fired() => {
                fired?;
                if rest_at.is_some_and(|at| at <= now().boot_us) {
                    engine.unsaid.shrink_to_fit();
                    outbox.shrink_to_fit();
                    inbox.shrink_to_fit();
                    TRIM.store(true, Ordering::Relaxed);
                    is_restless = false;
                    continue;
                }
            }
            accepted = listener.accept(), if accepts && engine.clients.has_room() => {
                match accepted {
                    Ok((client, _)) if may_speak(&client) => engine.clients.add(client),
                    Ok(_) => tracing::warn!("a client of another user was turned away"),
                    Err(error) => {
                        tracing::warn!("cannot accept a client: {error}");
                        accepts = false;
                        continue;
                    }
                }
            },
            Some(heard) = requests.recv() => {
                engine.serve(heard);
                // A client that was let go gives its descriptor back before the next is accepted.
                tokio::task::yield_now().await;
            }
            () = outside(&mut engine.overseer) => {}
            Some(ended) = ends.recv() => engine.ended(ended),
        }
        accepts = true;
        is_restless = true;
    }
    // Everything that was said must get out, but nobody who does not read is waited for: the
    // keeper ends us in time.
    drop(requests);
    engine.clients.finish().await;
    Ok(())
}

/// What the overseer hears from outside.
async fn outside(overseer: &mut Option<Box<dyn Overseer>>) {
    match overseer {
        Some(overseer) => std::future::poll_fn(|context| overseer.poll(context)).await,
        None => std::future::pending().await,
    }
}

/// The keeper's welcome. What came behind it stays in `inbox`.
async fn first_report(
    link: &UnixStream,
    inbox: &mut LinkBuffer,
) -> Result<wire::Report, RunnerError> {
    loop {
        link.readable().await?;
        if !receive(link, inbox)? {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        }
        if let Some(report) = inbox.first::<wire::Report>()? {
            return Ok(report);
        }
    }
}

/// Reads what is there; false at the end.
fn receive(link: &UnixStream, inbox: &mut LinkBuffer) -> io::Result<bool> {
    let mut chunk = [0; 16 << 10];
    loop {
        match link.try_read(&mut chunk) {
            Ok(0) => return Ok(false),
            Ok(count) => inbox.extend(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

fn send(link: &UnixStream, outbox: &mut Vec<u8>) -> io::Result<()> {
    while !outbox.is_empty() {
        match link.try_write(outbox) {
            Ok(count) => {
                outbox.drain(..count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The keeper died; reading finds the end.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => outbox.clear(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
