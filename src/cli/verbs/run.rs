//! `dewar run`: validates a task file, begins the task and follows it to its end.
//!
//! Everything that can be wrong is found before the task begins. A task of the same id goes on when
//! it is the same task, and is refused when it is another.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Args;
use jiff::{Timestamp, tz::TimeZone};

use super::attach::show_over;
use crate::{
    cli::{
        failure::{Code, Failure, Outcome},
        flags::{BindingArgs, BoundArgs, Format},
        follow::{Follower, consoles},
        limit_flags,
        signals::Signals,
        task_file::{TaskFile, allocate_ports, hostname},
        terminal::{complain, print},
        view::View,
    },
    config::Bindings,
    engine::{
        client::{Opened, Session, Start, Watched},
        history::promise,
        ipc::JOURNAL,
        keeper::ForkedRoot,
        runner::check_isolation,
        store::{Store, StoreError, Stored},
    },
    journal::{HEADER_VERSION, Header},
    sandbox::{self, Account},
    task::Task,
};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
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

/// The PATH of processes when the client has none itself.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

pub(crate) fn run(store: &Store, args: RunArgs, root: Option<ForkedRoot>) -> Outcome {
    let file = TaskFile::read(&args.file, &args.bindings)?;
    run_file(store, &file, args, root)
}

/// Runs the task of `file`.
pub(super) fn run_file(
    store: &Store,
    file: &TaskFile,
    args: RunArgs,
    root: Option<ForkedRoot>,
) -> Outcome {
    let id = match &args.id {
        Some(id) => id.clone(),
        None => default_id(&file.name()),
    };
    let known = match store.load(&id) {
        Ok(known) => known,
        Err(StoreError::Unknown(_)) => None,
        Err(error) if error.is_distrust() => return Err(Failure::new(Code::Lost, error)),
        Err(error) => return Err(Failure::rejected(error)),
    };
    // From here on a Ctrl-C must end the task too, unless the user asked for --detach.
    let signals = match args.detach {
        true => Signals::that_leave(&View::Quiet)?,
        false => Signals::that_stop()?,
    };
    let is_known = known.is_some();
    let (opened, task) = match known {
        Some(known) => resume(store, &id, file, &args, known)?,
        None => {
            let root = root.ok_or_else(|| Failure::new(Code::Internal, "no root was forked"))?;
            match begin(store, &id, file, &args, root)? {
                (Some(opened), task) => (opened, task),
                (None, _) => {
                    // Another client began a task under this id meanwhile, perhaps the same task.
                    let known = store.load(&id).map_err(Failure::rejected)?;
                    let known = known.ok_or_else(|| Failure::rejected("it vanished again"))?;
                    resume(store, &id, file, &args, known)?
                }
            }
        }
    };
    let (session, status) = match opened {
        Opened::Open(session, status) => (session, status),
        Opened::Over(status) if is_known => {
            complain(&format!("{} is over: {}", status.task_id, status.state));
            return Ok(Code::of_state(status.state).unwrap_or(Code::Internal));
        }
        // The task that this client began is over already.
        Opened::Over(_) if args.detach => {
            print(&id);
            return Ok(Code::Success);
        }
        Opened::Over(status) => return Ok(show_over(*status, View::of(args.format))),
    };
    if args.detach {
        print(&id);
    }
    let shown = consoles(&task, &status);
    let (watched, news) = Watched::begin(*status);
    let view = match args.detach {
        true => View::Quiet,
        false => View::of(args.format),
    };
    let mut follower = Follower::new(session, watched, view, shown, signals);
    follower.detach = args.detach;
    if is_known {
        follower.start = Start::Present;
    }
    follower.run(news)
}

/// Goes on with the task of this id when it is the task of `file`; another one is refused.
fn resume<'s>(
    store: &'s Store,
    id: &str,
    file: &TaskFile,
    args: &RunArgs,
    known: Stored,
) -> Result<(Opened<'s>, Task), Failure> {
    let header = &known.header;
    let mut ports: BTreeMap<String, u16> = header
        .ports
        .iter()
        .map(|(name, port)| (name.clone(), *port as u16))
        .collect();
    ports.extend(args.bindings.ports.iter().cloned());
    let bindings = Bindings {
        task_id: id.to_owned(),
        user: header.user.clone(),
        instance: 0,
        hostname: header.hostname.clone(),
        ports,
        sets: args.bindings.sets.iter().cloned().collect(),
    };
    let mut task = file.resolve(&bindings)?.task;
    limit_flags::apply(args.bounds, &mut task);
    if known.status.state.is_terminal() {
        return Ok((Opened::Over(Box::new(known.status)), task));
    }
    task.held = known.model.task.held;
    if task.as_written() != known.model.task.as_written() {
        let message = format!("task {id:?} is active, and it is another task than this file's");
        return Err(Failure::rejected(message).hint(format!(
            "follow it with: dewar attach {id}, or choose another --id"
        )));
    }
    Ok((Session::open(store, id, limit_flags::make_room)?, task))
}

fn begin<'s>(
    store: &'s Store,
    id: &str,
    file: &TaskFile,
    args: &RunArgs,
    root: ForkedRoot,
) -> Result<(Option<Opened<'s>>, Task), Failure> {
    store.directory(id).map_err(Failure::rejected)?;
    let own = Account::own();
    let ports = allocate_ports(&file.ports(), &args.bindings.ports)?;
    let mut bindings = Bindings {
        task_id: id.to_owned(),
        user: own.name.clone(),
        instance: 0,
        hostname: hostname(),
        ports,
        sets: args.bindings.sets.iter().cloned().collect(),
    };
    let mut task = file.resolve(&bindings)?.task;
    let account = match &task.user {
        Some(name) => {
            let account = reachable(name)?;
            if account.name != own.name {
                // Templates may contain the user.
                bindings.user.clone_from(&account.name);
                task = file.resolve(&bindings)?.task;
            }
            account
        }
        None => own,
    };
    limit_flags::apply(args.bounds, &mut task);
    for name in task
        .processes
        .iter()
        .filter_map(|process| process.user.as_ref())
    {
        reachable(name)?;
    }
    limit_flags::check(&task, id, root.pid)?;
    let directory = store
        .make_directory(id)
        .map_err(|error| Failure::rejected(error).hint("choose another place with --root DIR"))?;
    let path = match &args.sandbox {
        Some(path) => std::path::absolute(path).map_err(Failure::rejected)?,
        None => directory.join("sandbox"),
    };
    let sandbox = sandbox::prepare(&path, &account).map_err(Failure::rejected)?;
    let sandbox = sandbox
        .into_os_string()
        .into_string()
        .map_err(|path| Failure::rejected(format!("the sandbox {path:?} is not UTF-8")))?;
    check_isolation(&task, Path::new(&sandbox)).map_err(|why| {
        Failure::rejected(format!("no private task can be built here: {why}"))
            .hint("see what this machine can give: dewar doctor")
    })?;
    let needs = promise(&mut task);
    let header = Header {
        version: HEADER_VERSION,
        task_id: id.to_owned(),
        task: serde_json::to_string(&task).map_err(|e| Failure::new(Code::Internal, e))?,
        environment: environment(&sandbox, &account.name, args.preserve_env),
        sandbox,
        sandbox_given: args.sandbox.is_some(),
        user: account.name,
        uid: account.uid,
        gid: account.gid,
        ports: bindings
            .ports
            .into_iter()
            .map(|(name, port)| (name, u32::from(port)))
            .collect(),
        hostname: bindings.hostname,
        executor: None,
        needs,
    };
    tracing::info!("journal {}", directory.join(JOURNAL).display());
    let begun = Session::begin(store, header, root.socket, limit_flags::make_room)?;
    Ok((begun, task))
}

fn reachable(name: &str) -> Result<Account, Failure> {
    let account = Account::named(name).map_err(Failure::rejected)?;
    account.check_reachable().map_err(Failure::rejected)?;
    Ok(account)
}

/// The environment of processes: HOME, LOGNAME, USER and PATH; with `preserve`, also that of the
/// client.
fn environment(sandbox: &str, user: &str, preserve: bool) -> Vec<String> {
    let mut environment: BTreeMap<String, String> = match preserve {
        true => std::env::vars().collect(),
        false => BTreeMap::new(),
    };
    environment.extend(sandbox::own_variables(sandbox, user, PATH));
    sandbox::assignments(environment)
}

/// An id for a task: NAME-YYYYmmdd-HHMMSS.usec, in local time.
pub(super) fn default_id(name: &str) -> String {
    let now = Timestamp::now().to_zoned(TimeZone::system());
    let micros = now.timestamp().as_microsecond().rem_euclid(1_000_000);
    let stamp = now.strftime("%Y%m%d-%H%M%S");
    format!("{}-{stamp}.{micros:06}", sandbox::file_name(name))
}
