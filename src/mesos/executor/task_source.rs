//! Reads what a `TaskInfo` describes: a dewar task in its data, or a Mesos command.

use super::interface::UpdateText;
use crate::{
    config::{Bindings, Diagnostics, Document, Wrapper},
    mesos::protocol::messages::{
        CheckInfo, CommandInfo, HealthCheck, TaskInfo, health_check, task_status::Reason,
    },
    sandbox,
    task::{Health, HttpProbe, Period, Probe, Process, Task, TcpProbe},
};

/// The longest message of an update, in characters. A description may be wrong in many places.
const LONGEST_MESSAGE: usize = 2000;

/// What the framework wants to run.
pub(super) struct TaskSource {
    pub(super) source: String,
    /// The task file in the data; `None` when a command is given.
    pub(super) document: Option<Document>,
    pub(super) command: Option<Task>,
    pub(super) wrapper: Option<Wrapper>,
}

impl TaskSource {
    pub(super) fn read(info: &TaskInfo) -> Result<TaskSource, UpdateText> {
        let data = info.data.as_deref().unwrap_or_default();
        if data.is_empty() {
            let command = info.command.as_ref().ok_or_else(|| {
                invalid("neither data (a task in JSON or YAML) nor a command is given".to_owned())
            })?;
            return Ok(TaskSource {
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
        let wrapper = document.take_wrapper();
        if document.names().len() != 1 {
            return Err(invalid("data has several tasks; one is run".to_owned()));
        }
        Ok(TaskSource {
            source: source.to_owned(),
            document: Some(document),
            command: None,
            wrapper,
        })
    }

    pub(super) fn outer_health(&self, bindings: &Bindings) -> Option<Health> {
        self.document.as_ref()?.outer_health(bindings)
    }

    pub(super) fn port_names(&self) -> Vec<String> {
        let document = self.document.as_ref();
        document.map_or_else(Vec::new, |document| document.ports(0).into_iter().collect())
    }

    pub(super) fn resolve(&mut self, bindings: &Bindings) -> Result<Task, UpdateText> {
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

/// A task of one process, run as Mesos' own command executor would run it.
fn of_command(name: &str, command: &CommandInfo) -> Result<Task, UpdateText> {
    let value = command.value.clone();
    let missing = || invalid("the command has no value".to_owned());
    let (cmdline, argv) = match command.shell() {
        true => (Some(value.ok_or_else(missing)?), None),
        false => {
            let program = value.ok_or_else(missing)?;
            // The first argument is the program's name for itself (`argv[0]`).
            let arguments = command.arguments.iter().skip(1).cloned();
            (
                None,
                Some(std::iter::once(program).chain(arguments).collect()),
            )
        }
    };
    // The name of a process is also that of its log directory.
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

/// A check of Mesos, whose results are only reported.
pub(super) fn of_check(check: &CheckInfo) -> Result<Health, UpdateText> {
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
        // A check never ends its task.
        max_consecutive_failures: u32::MAX,
        ..health
    })
}

/// A health check of Mesos.
pub(super) fn of_mesos(check: &HealthCheck) -> Result<Health, UpdateText> {
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
    // Zero means no limit; a day is as good.
    let timeout = match check.timeout_seconds() {
        0.0 => 86_400.0,
        timeout => timeout,
    };
    Ok(Health {
        probe,
        delay: seconds(delay)?,
        // Mesos counts the grace period from the launch.
        initial_interval: seconds((check.grace_period_seconds() - delay).max(0.0))?,
        interval: seconds(interval)?,
        timeout: seconds(timeout)?,
        // Mesos names the failure that ends the task, dewar the failures that are allowed before
        // it.
        max_consecutive_failures: check.consecutive_failures().saturating_sub(1),
        min_consecutive_successes: 1,
        grace_ends_early: true,
        grace_is_time: true,
    })
}

fn refused(diagnostics: &Diagnostics, source: &str) -> UpdateText {
    invalid(diagnostics.render(source, "data", false))
}

pub(super) fn invalid(message: String) -> UpdateText {
    unfit(Reason::TaskInvalid, message)
}

pub(super) fn unbuilt(message: String) -> UpdateText {
    unfit(Reason::ContainerLaunchFailed, message)
}

fn unfit(reason: Reason, message: String) -> UpdateText {
    UpdateText {
        message: Some(message.chars().take(LONGEST_MESSAGE).collect()),
        reason: Some(reason),
        ..UpdateText::default()
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
    fn digest(data: Vec<u8>) -> Result<Task, UpdateText> {
        let info = TaskInfo {
            data: Some(data),
            ..TaskInfo::default()
        };
        let mut source = TaskSource::read(&info)?;
        let ports = source.port_names().into_iter().map(|name| (name, 1));
        let bindings = Bindings {
            ports: ports.collect(),
            ..Bindings::default()
        };
        let mut task = source.resolve(&bindings)?;
        task.health = source.outer_health(&bindings);
        if let Some(document) = &source.document {
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
        assert!(!health.grace_is_time, "Aurora counts attempts");
        let own = br#"{"processes": [], "health": {"shell": "x"}}"#.to_vec();
        let data = Some(own);
        let info = TaskInfo {
            data,
            ..TaskInfo::default()
        };
        let mut source = TaskSource::read(&info).unwrap();
        let task_of_a_file = source.resolve(&Bindings::default()).unwrap();
        assert!(task_of_a_file.health.unwrap().grace_is_time);
        assert_eq!(task.lifecycle.unwrap().port, 1);
    }

    proptest! {
        #[test]
        fn garbage_is_refused_in_words(data in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Err(text) = digest(data) {
                prop_assert!(text.message.is_some_and(|message| message.chars().count() <= LONGEST_MESSAGE));
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
