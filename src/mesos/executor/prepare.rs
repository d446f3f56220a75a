//! From a `TaskInfo` to a task that can be opened: its configuration, ports, user and directories.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
};

use super::{
    bounds::Bounds,
    interface::UpdateText,
    task_source::{TaskSource, invalid, of_check, of_mesos, unbuilt},
};
use crate::{
    config::{Bindings, Wrapper, job_sets},
    engine::{
        history::promise,
        ipc::{LIVE, SOCKET},
        runner::check_isolation,
        store::is_task_id,
    },
    journal::{HEADER_VERSION, Header},
    mesos::protocol::messages::{CommandInfo, TaskInfo},
    resources::{Survey, Whose, has_limits},
    sandbox::{self, Account},
};

/// The `PATH` that Mesos gives to processes.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What all tasks of an executor have in common.
#[derive(Debug)]
pub(super) struct ExecutorContext {
    /// The container's sandbox.
    pub sandbox: PathBuf,
    /// The directory of the executor's socket.
    pub directory: PathBuf,
    pub hostname: String,
    pub bounds: Bounds,
}

/// A task that can be opened: its directory, and the header of its journal.
#[derive(Debug)]
pub(super) struct Prepared {
    pub directory: String,
    pub header: Header,
}

/// Makes everything that a task needs before its journal is created.
///
/// # Errors
/// The text of the update for a task that cannot be opened.
pub(super) fn prepare(info: &TaskInfo, context: &ExecutorContext) -> Result<Prepared, UpdateText> {
    let id = info.task_id.value.as_str();
    if !is_task_id(id) {
        return Err(invalid(format!("{id:?} cannot be the name of a directory")));
    }
    let own = Account::own();
    let mut source = TaskSource::read(info)?;
    let ports = ports(info, &source.port_names())?;
    let wrapper = source.wrapper.clone().unwrap_or_default();
    if !wrapper.ignored.is_empty() {
        let names = wrapper.ignored.join(", ");
        tracing::warn!("task {id}: nothing is done about {names}");
    }
    let account = account(&source, &wrapper, &own)?;
    let bindings = Bindings {
        task_id: id.to_owned(),
        user: account.name.clone(),
        instance: wrapper.instance.unwrap_or_default(),
        hostname: context.hostname.clone(),
        ports: ports.clone(),
        sets: job_sets(
            &source.source,
            wrapper.role.as_deref().unwrap_or_default(),
            wrapper.environment.as_deref().unwrap_or_default(),
        ),
    };
    let mut task = source.resolve(&bindings)?;
    if account.name != own.name {
        task.user.get_or_insert(account.name.clone());
    }
    if task.health.is_none() {
        task.health = match &info.health_check {
            Some(check) => Some(of_mesos(check)?),
            None => source.outer_health(&bindings),
        };
    }
    if let Some(check) = &info.check {
        task.check = Some(of_check(check)?);
    }
    if task.lifecycle.is_none()
        && let Some(document) = &source.document
    {
        task.lifecycle = document.outer_lifecycle(&bindings);
    }
    if let Some(level) = context.bounds.isolation {
        task.isolation.level = level;
    }
    task.enforce = context.bounds.enforce_task;
    let problems = match has_limits(&task) {
        true => Survey::take().problems(&task, Whose::Strict),
        false => Vec::new(),
    };
    if !problems.is_empty() {
        return Err(unbuilt(problems.join("; ")));
    }
    let needs = promise(&mut task);
    let text = serde_json::to_string(&task).map_err(|error| invalid(error.to_string()))?;
    let (directory, sandbox) =
        directories(id, &account, context).map_err(|error| unbuilt(error.to_string()))?;
    check_isolation(&task, Path::new(&sandbox)).map_err(|error| unbuilt(error.to_string()))?;
    let header = Header {
        version: HEADER_VERSION,
        task_id: id.to_owned(),
        task: text,
        environment: environment(info.command.as_ref(), &sandbox, &account.name),
        sandbox,
        user: account.name,
        uid: account.uid,
        gid: account.gid,
        ports: ports
            .into_iter()
            .map(|(name, port)| (name, u32::from(port)))
            .collect(),
        hostname: bindings.hostname,
        needs,
        ..Header::default()
    };
    Ok(Prepared { directory, header })
}

/// The account that runs the task. An executor of root takes the task's user, or else its role; any
/// other executor runs the task as its own user.
fn account(source: &TaskSource, wrapper: &Wrapper, own: &Account) -> Result<Account, UpdateText> {
    let command_user = source.command.as_ref().and_then(|task| task.user.clone());
    let wanted = command_user.or_else(|| wrapper.role.clone());
    match wanted.filter(|name| own.uid == 0 && *name != own.name) {
        None => Ok(own.clone()),
        Some(name) => {
            let account = Account::named(&name).map_err(|error| invalid(error.to_string()))?;
            account
                .check_reachable()
                .map_err(|error| invalid(error.to_string()))?;
            Ok(account)
        }
    }
}

/// Ports by name: first those of `DiscoveryInfo`, then the offered ones in the order of the names.
fn ports(info: &TaskInfo, names: &[String]) -> Result<BTreeMap<String, u16>, UpdateText> {
    let discovery = info.discovery.as_ref().and_then(|info| info.ports.as_ref());
    let discovered = discovery.iter().flat_map(|ports| &ports.ports);
    let mut found: BTreeMap<String, u16> = discovered
        .filter_map(|port| Some((port.name.clone()?, u16::try_from(port.number).ok()?)))
        .collect();
    let resources = info.resources.iter().filter(|one| one.name == "ports");
    let ranges = resources
        .filter_map(|resource| resource.ranges.as_ref())
        .flat_map(|ranges| &ranges.range);
    let offered: Vec<u16> = ranges
        .flat_map(|range| range.begin..=range.end.min(u64::from(u16::MAX)))
        .filter_map(|port| u16::try_from(port).ok())
        .collect();
    let taken: Vec<u16> = found.values().copied().collect();
    let mut free = offered.iter().filter(|port| !taken.contains(port));
    for name in names {
        if !found.contains_key(name) {
            let port = free.next().ok_or_else(|| {
                let count = offered.len();
                invalid(format!(
                    "port `{name}` is needed, but only {count} port(s) were offered to the task"
                ))
            })?;
            found.insert(name.clone(), *port);
        }
    }
    Ok(found)
}

/// Makes SANDBOX/tasks/ID with the task's sandbox in it. SANDBOX/sandbox becomes a link to the
/// first task's sandbox, and links in the task's directory lead to the executor's socket and live
/// file.
fn directories(
    id: &str,
    account: &Account,
    context: &ExecutorContext,
) -> io::Result<(String, String)> {
    let directory = context.sandbox.join("tasks").join(id);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&directory)?;
    let sandbox =
        sandbox::prepare(&directory.join("sandbox"), account).map_err(io::Error::other)?;
    for name in [SOCKET, LIVE] {
        link(&context.directory.join(name), &directory.join(name))?;
    }
    link(&sandbox, &context.sandbox.join("sandbox"))?;
    let text = |path: PathBuf| {
        let path = path.into_os_string().into_string();
        path.map_err(|path| io::Error::other(format!("{} is not UTF-8", path.display())))
    };
    Ok((text(directory)?, text(sandbox)?))
}

fn link(target: &Path, path: &Path) -> io::Result<()> {
    match symlink(target, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn environment(command: Option<&CommandInfo>, sandbox: &str, user: &str) -> Vec<String> {
    let mut environment = sandbox::own_variables(sandbox, user, PATH);
    let given = command.and_then(|command| command.environment.as_ref());
    for variable in given.iter().flat_map(|given| &given.variables) {
        if let Some(value) = &variable.value {
            environment.insert(variable.name.clone(), value.clone());
        }
    }
    sandbox::assignments(environment)
}
