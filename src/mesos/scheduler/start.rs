//! Starts a scheduler: lock, journal, sockets, link, and then the event loop.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tokio::{runtime, sync::mpsc};

use super::{
    api,
    core::{SchedulerCore, Settings, State},
    event_loop::{Clock, EventLoop, SchedulerError, Sources},
    journal::{self, FactJournal},
    master_link::MasterLink,
    translate::{ExecutorCommand, Framework, Translator},
};
use crate::{
    mesos::protocol::Wire,
    sys::small_file,
    web::{Address, Guard, Listener},
};

/// The name of the socket in the scheduler's directory.
pub const SOCKET: &str = "socket";
/// The name of the token's file in the scheduler's directory.
pub const TOKEN: &str = "token";

/// The settings that a scheduler starts with.
#[derive(Debug)]
pub struct Options {
    /// Masters as `host:port`; any of them knows the leading one.
    pub masters: Vec<String>,
    /// The root of the scheduler's directory; another scheduler with the same root waits.
    pub root: PathBuf,
    /// The address to listen at besides the socket.
    pub listen: Option<Address>,
    /// More names under which clients may address it.
    pub hosts: Vec<String>,
    /// The token of clients; `None`: one is made, and kept beside the socket.
    pub token: Option<String>,
    /// The framework; its id comes from the journal.
    pub framework: Framework,
    /// The value of the Authorization header towards the master.
    pub authorization: Option<String>,
    /// The wire format towards the master.
    pub wire: Wire,
    /// The command by which agents start executors.
    pub executor: ExecutorCommand,
    /// The settings of the core.
    pub settings: Settings,
    /// Subscribe as a new framework, because the master has removed the old one.
    pub forget_framework: bool,
}

/// What a starting scheduler tells its user.
#[derive(Debug)]
pub enum StartupNotice {
    /// Another scheduler has the lock; this one waits for it.
    Waits,
    /// It listens at these addresses.
    Listens(Vec<Address>),
}

/// Runs a scheduler until a signal asks it to stop.
///
/// # Errors
/// If it cannot start, or cannot go on.
pub fn run(options: Options, tell: impl Fn(StartupNotice)) -> Result<(), SchedulerError> {
    let directory = journal::directory(&options.root);
    let locked = journal::lock(&directory, || tell(StartupNotice::Waits))?;
    let clock = Clock::start();
    let (send, written) = mpsc::unbounded_channel();
    // The loop may have ended.
    let told = move |written| drop(send.send(written));
    let flapping = options.settings.flapping;
    let (store, state) = locked.open(clock.moment(), &flapping, told)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| SchedulerError::Io {
            what: "start".to_owned(),
            source,
        })?;
    runtime.block_on(start(
        options, directory, clock, store, state, written, tell,
    ))
}

async fn start(
    options: Options,
    directory: PathBuf,
    clock: Clock,
    store: FactJournal,
    mut state: State,
    written: mpsc::UnboundedReceiver<journal::Written>,
    tell: impl Fn(StartupNotice),
) -> Result<(), SchedulerError> {
    if options.forget_framework {
        state.framework = None;
    }
    let (send, asks) = mpsc::unbounded_channel();
    let mut addresses = Vec::new();
    let socket = Address::Unix(directory.join(SOCKET));
    for address in [Some(socket), options.listen].into_iter().flatten() {
        let listener = Listener::bind(&address).await;
        let listener = listener.map_err(|source| SchedulerError::Io {
            what: format!("listen at {address}"),
            source,
        })?;
        let guard = guard(&listener, &options.token, &options.hosts, &directory)?;
        addresses.extend(listener.address());
        tokio::spawn(api::serve(listener, send.clone(), guard));
    }
    let framework = Framework {
        id: state.framework.clone(),
        ..options.framework
    };
    let link = MasterLink {
        masters: options.masters,
        authorization: options.authorization,
        framework,
        wire: options.wire,
    };
    let now = clock.moment().wall_us / 1000;
    let core = SchedulerCore::new(options.settings, state, now);
    let (calls, outgoing) = mpsc::unbounded_channel();
    let (send, events) = mpsc::unbounded_channel();
    tokio::spawn(link.run(outgoing, send));
    let event_loop = EventLoop::new(core, Translator::new(options.executor), store, clock, calls);
    tell(StartupNotice::Listens(addresses));
    let sources = Sources {
        link: events,
        written,
        asks,
    };
    event_loop.run(sources).await
}

/// A socket in the file system is guarded by its owner and mode; a port needs a token and the right
/// names.
fn guard(
    listener: &Listener,
    token: &Option<String>,
    hosts: &[String],
    directory: &Path,
) -> Result<Guard, SchedulerError> {
    let Some(Address::Tcp(address)) = listener.address() else {
        return Ok(Guard::default());
    };
    let token = match token {
        Some(token) => token.clone(),
        None => kept_token(&directory.join(TOKEN)).map_err(|source| SchedulerError::Io {
            what: format!("keep a token in {}", directory.display()),
            source,
        })?,
    };
    let port = address.rsplit_once(':').map_or("", |(_, port)| port);
    let mut names = vec![address.clone()];
    for name in ["localhost", "127.0.0.1", "[::1]"] {
        names.push(format!("{name}:{port}"));
    }
    names.extend(hosts.iter().cloned());
    Ok(Guard {
        token: Some(token),
        hosts: names,
    })
}

/// The token in this file; a new one when there is no file.
fn kept_token(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(token) if !token.trim().is_empty() => return Ok(token.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let token = format!(
        "{}{}",
        uuid::Uuid::new_v4().simple(),
        uuid::Uuid::new_v4().simple()
    );
    small_file::replace(path, 0o600, format!("{token}\n").as_bytes())?;
    Ok(token)
}
