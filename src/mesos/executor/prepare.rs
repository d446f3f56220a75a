//! From a TaskInfo to a task that can begin: its configuration, ports, user and directories.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
};

use super::{interface::Words, start::Bounds};
use crate::{
    config::{Bindings, Diagnostics, Document, Wrapper, job_sets},
    engine::{
        ipc::{LIVE, SOCKET},
        runner::check_isolation,
        store::is_task_id,
    },
    journal::Header,
    mesos::protocol::messages::{
        CheckInfo, CommandInfo, HealthCheck, TaskInfo, health_check, task_status::Reason,
    },
    resources::{Survey, Whose, has_limits},
    sandbox::{self, Account},
    task::{Health, HttpProbe, Period, Probe, Process, Task, TcpProbe},
};

/// Of a description that is wrong in many places, characters that fit into a message.
const LONGEST_MESSAGE: usize = 2000;
/// Mesos' default for processes.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The executor's own place and host.
#[derive(Debug)]
pub(super) struct Place {
    /// The container's sandbox.
    pub sandbox: PathBuf,
    /// Where the executor's socket is.
    pub directory: PathBuf,
    pub hostname: String,
    pub bounds: Bounds,
}

/// A task that can begin.
#[derive(Debug)]
pub(super) struct Prepared {
    pub directory: String,
    pub header: Header,
}

/// Makes everything that a task needs before its journal begins.
///
/// # Errors
/// What to say of the task that cannot begin.
pub(super) fn prepare(info: &TaskInfo, place: &Place) -> Result<Prepared, Words> {
    let id = info.task_id.value.as_str();
    if !is_task_id(id) {
        return Err(invalid(format!("{id:?} cannot be the name of a directory")));
    }
    let own = Account::own();
    let mut described = Described::read(info)?;
    let ports = ports(info, &described.port_names())?;
    let wrapper = described.wrapper.clone().unwrap_or_default();
    if !wrapper.ignored.is_empty() {
        let names = wrapper.ignored.join(", ");
        tracing::warn!("task {id}: nothing is done about {names}");
    }
    let account = account(&described, &wrapper, &own)?;
    let bindings = Bindings {
        task_id: id.to_owned(),
        user: account.name.clone(),
        instance: wrapper.instance.unwrap_or_default(),
        hostname: place.hostname.clone(),
        ports: ports.clone(),
        sets: job_sets(
            &described.source,
            wrapper.role.as_deref().unwrap_or_default(),
            wrapper.environment.as_deref().unwrap_or_default(),
        ),
    };
    let mut task = described.resolve(&bindings)?;
    if account.name != own.name {
        task.user.get_or_insert(account.name.clone());
    }
    if task.health.is_none() {
        task.health = match &info.health_check {
            Some(check) => Some(of_mesos(check)?),
            None => described.outer_health(&bindings),
        };
    }
    if let Some(check) = &info.check {
        task.check = Some(of_check(check)?);
    }
    if task.lifecycle.is_none()
        && let Some(document) = &described.document
    {
        task.lifecycle = document.outer_lifecycle(&bindings);
    }
    if let Some(level) = place.bounds.isolation {
        task.isolation.level = level;
    }
    task.enforce = place.bounds.enforce_task;
    let problems = match has_limits(&task) {
        true => Survey::take().problems(&task, Whose::Strict),
        false => Vec::new(),
    };
    if !problems.is_empty() {
        return Err(unbuilt(problems.join("; ")));
    }
    let text = serde_json::to_string(&task).map_err(|error| invalid(error.to_string()))?;
    let (directory, sandbox) =
        directories(id, &account, place).map_err(|error| unbuilt(error.to_string()))?;
    check_isolation(&task, Path::new(&sandbox)).map_err(unbuilt)?;
    let header = Header {
        version: 1,
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
        ..Header::default()
    };
    Ok(Prepared { directory, header })
}

/// What the scheduler wants to run.
struct Described {
    source: String,
    /// `None`: the command.
    document: Option<Document>,
    command: Option<Task>,
    wrapper: Option<Wrapper>,
}

impl Described {
    fn read(info: &TaskInfo) -> Result<Described, Words> {
        let data = info.data.as_deref().unwrap_or_default();
        if data.is_empty() {
            let command = info.command.as_ref().ok_or_else(|| {
                invalid("neither data (a task in JSON or YAML) nor a command is given".to_owned())
            })?;
            return Ok(Described {
                source: String::new(),
                document: None,
                command: Some(of_command(&info.name, command)?),
                wrapper: None,
            });
        }
        let source = std::str::from_utf8(data)
            .map_err(|error| invalid(format!("data is no text: {error}")))?;
        let is_json = source.trim_start().starts_with(['{', '[']);
        let mut document = Document::parse(source, is_json)
            .map_err(|diagnostics| refused(&diagnostics, source))?;
        document.forgive_unknown();
        let wrapper = document.unwrap();
        if document.names().len() != 1 {
            return Err(invalid("data has several tasks; one is run".to_owned()));
        }
        Ok(Described {
            source: source.to_owned(),
            document: Some(document),
            command: None,
            wrapper,
        })
    }

    fn outer_health(&self, bindings: &Bindings) -> Option<Health> {
        self.document.as_ref()?.outer_health(bindings)
    }

    fn port_names(&self) -> Vec<String> {
        let document = self.document.as_ref();
        document.map_or_else(Vec::new, |document| document.ports(0).into_iter().collect())
    }

    fn resolve(&mut self, bindings: &Bindings) -> Result<Task, Words> {
        let Some(document) = &self.document else {
            return self
                .command
                .take()
                .ok_or_else(|| invalid("no command".to_owned()));
        };
        let resolved = document
            .resolve(0, bindings)
            .map_err(|diagnostics| refused(&diagnostics, &self.source))?;
        if resolved.diagnostics.iter().next().is_some() {
            let text = resolved.diagnostics.render(&self.source, "data", false);
            tracing::warn!("task {}:\n{text}", bindings.task_id);
        }
        Ok(resolved.task)
    }
}

/// Mesos' own description of a check that is only reported.
fn of_check(check: &CheckInfo) -> Result<Health, Words> {
    let command = check.command.as_ref().map(|check| check.command.clone());
    let http = check.http.as_ref().map(|http| health_check::HttpCheckInfo {
        port: http.port,
        path: http.path.clone(),
        ..health_check::HttpCheckInfo::default()
    });
    let tcp = check
        .tcp
        .as_ref()
        .map(|tcp| health_check::TcpCheckInfo { port: tcp.port });
    let health = of_mesos(&HealthCheck {
        command,
        http,
        tcp,
        delay_seconds: Some(check.delay_seconds()),
        interval_seconds: Some(check.interval_seconds()),
        timeout_seconds: Some(check.timeout_seconds()),
        ..HealthCheck::default()
    })?;
    Ok(Health {
        // It never ends for what it finds.
        max_consecutive_failures: u32::MAX,
        ..health
    })
}

/// Mesos' own description of a health check.
fn of_mesos(check: &HealthCheck) -> Result<Health, Words> {
    let seconds = |seconds: f64| {
        Period::from_secs_f64(seconds).ok_or_else(|| {
            invalid(format!(
                "{seconds} seconds of a health check are no duration"
            ))
        })
    };
    let port = |port: u32| match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(invalid(format!("{port} of a health check is no port"))),
    };
    let probe = match (&check.http, &check.tcp, &check.command) {
        (Some(http), ..) => Probe::Http(HttpProbe {
            port: port(http.port)?,
            path: http.path.clone().unwrap_or_else(|| "/".to_owned()),
            status: http
                .statuses
                .first()
                .and_then(|status| u16::try_from(*status).ok())
                .unwrap_or(0),
            body: String::new(),
        }),
        (None, Some(tcp), _) => Probe::Tcp(TcpProbe {
            port: port(tcp.port)?,
        }),
        (None, None, Some(command)) => Probe::Shell(command.value.clone().unwrap_or_default()),
        (None, None, None) => {
            return Err(invalid(
                "a health check without http, tcp or command".to_owned(),
            ));
        }
    };
    let (delay, interval) = (check.delay_seconds(), check.interval_seconds().max(0.001));
    // Zero means that an attempt may take for ever; a day is as good.
    let timeout = match check.timeout_seconds() {
        0.0 => 86_400.0,
        timeout => timeout,
    };
    Ok(Health {
        probe,
        delay: seconds(delay)?,
        // Mesos counts its grace from the launch.
        initial_interval: seconds((check.grace_period_seconds() - delay).max(0.0))?,
        interval: seconds(interval)?,
        timeout: seconds(timeout)?,
        // Mesos gives the number of failures that are the end, not those that are allowed.
        max_consecutive_failures: check.consecutive_failures().saturating_sub(1),
        min_consecutive_successes: 1,
        grace_ends_early: true,
    })
}

/// One process, as Mesos' own command executor would run it.
fn of_command(name: &str, command: &CommandInfo) -> Result<Task, Words> {
    let value = command.value.clone();
    let missing = || invalid("the command has no value".to_owned());
    let (cmdline, argv) = match command.shell() {
        true => (Some(value.ok_or_else(missing)?), None),
        false => {
            let program = value.ok_or_else(missing)?;
            // Its arguments begin with the program's own name for itself.
            let arguments = command.arguments.iter().skip(1).cloned();
            (
                None,
                Some(std::iter::once(program).chain(arguments).collect()),
            )
        }
    };
    // A process' name is a directory's name too.
    let process = match sandbox::file_name(name) {
        name if name.is_empty() => "command".to_owned(),
        name => name,
    };
    let process = Process {
        shell: cmdline.is_some().then(|| "/bin/sh".to_owned()),
        cmdline,
        argv,
        max_runs: 1,
        ..Process::named(process)
    };
    Ok(Task {
        user: command.user.clone(),
        ..Task::of(name.to_owned(), vec![process])
    })
}

/// Who runs it: as root the task's user or else its role, else ourselves.
fn account(described: &Described, wrapper: &Wrapper, own: &Account) -> Result<Account, Words> {
    let command_user = described
        .command
        .as_ref()
        .and_then(|task| task.user.clone());
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

/// Ports by name: as DiscoveryInfo says, the others from the resource, both in the order of names.
fn ports(info: &TaskInfo, names: &[String]) -> Result<BTreeMap<String, u16>, Words> {
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

/// SANDBOX/tasks/ID with the task's sandbox in it, and ways to it: SANDBOX/sandbox is the first
/// task's, and who looks at the task finds its executor.
fn directories(id: &str, account: &Account, place: &Place) -> io::Result<(String, String)> {
    let directory = place.sandbox.join("tasks").join(id);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&directory)?;
    let sandbox =
        sandbox::prepare(&directory.join("sandbox"), account).map_err(io::Error::other)?;
    for name in [SOCKET, LIVE] {
        link(&place.directory.join(name), &directory.join(name))?;
    }
    link(&sandbox, &place.sandbox.join("sandbox"))?;
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

fn refused(diagnostics: &Diagnostics, source: &str) -> Words {
    invalid(diagnostics.render(source, "data", false))
}

fn invalid(message: String) -> Words {
    unfit(Reason::TaskInvalid, message)
}

fn unbuilt(message: String) -> Words {
    unfit(Reason::ContainerLaunchFailed, message)
}

fn unfit(reason: Reason, message: String) -> Words {
    Words {
        message: Some(message.chars().take(LONGEST_MESSAGE).collect()),
        reason: Some(reason),
        ..Words::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DATA: &str = r#"{"instance": "3", "role": "www", "health_check_config": {"health_checker":
        {"shell": {"shell_command": "test -e {{thermos.task_id}}"}}, "interval_secs": 1e3},
        "lifecycle": {"http": {"port": "health"}}, "task": {"processes": [{"name": "a",
        "cmdline": "{{thermos.ports[health]}}", "max_failures": 1.5}], "constraints": []}}"#;

    /// Everything that happens to task data before a directory is made.
    fn digest(data: Vec<u8>) -> Result<Task, Words> {
        let info = TaskInfo {
            data: Some(data),
            ..TaskInfo::default()
        };
        let mut described = Described::read(&info)?;
        let ports = described.port_names().into_iter().map(|name| (name, 1));
        let bindings = Bindings {
            ports: ports.collect(),
            ..Bindings::default()
        };
        let mut task = described.resolve(&bindings)?;
        task.health = described.outer_health(&bindings);
        if let Some(document) = &described.document {
            task.lifecycle = document.outer_lifecycle(&bindings);
        }
        Ok(task)
    }

    #[test]
    fn what_is_around_a_task_belongs_to_it() {
        let task = digest(DATA.as_bytes().to_vec()).unwrap();
        let health = task.health.unwrap();
        assert_eq!(health.probe, Probe::Shell("test -e ".to_owned()));
        assert_eq!(health.interval, Period::from_secs(1000));
        assert_eq!(task.lifecycle.unwrap().port, 1);
    }

    proptest! {
        #[test]
        fn garbage_is_refused_in_words(data in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(words) = digest(data) {
                prop_assert!(words.message.is_some_and(|message| message.chars().count() <= LONGEST_MESSAGE));
            }
        }

        #[test]
        fn damaged_data_is_no_panic(
            at in any::<prop::sample::Index>(),
            length in 0..20usize,
            piece in "[\\PC]{0,12}",
        ) {
            let mut data = DATA.as_bytes().to_vec();
            let at = at.index(data.len());
            data.splice(at..(at + length).min(data.len()), piece.into_bytes());
            let _ = digest(data);
        }
    }
}
