//! What a `TaskInfo` describes: a task of ours, a Mesos command, or why neither can run.

use super::interface::Words;
use crate::{
    config::{Bindings, Diagnostics, Document, Wrapper},
    mesos::protocol::messages::{
        CheckInfo, CommandInfo, HealthCheck, TaskInfo, health_check, task_status::Reason,
    },
    sandbox,
    task::{Health, HttpProbe, Period, Probe, Process, Task, TcpProbe},
};

/// Of a description that is wrong in many places, characters that fit into a message.
const LONGEST_MESSAGE: usize = 2000;

/// What the scheduler wants to run.
pub(super) struct Described {
    pub(super) source: String,
    /// `None`: the command.
    pub(super) document: Option<Document>,
    pub(super) command: Option<Task>,
    pub(super) wrapper: Option<Wrapper>,
}

impl Described {
    pub(super) fn read(info: &TaskInfo) -> Result<Described, Words> {
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
        let wrapper = document.take_wrapper();
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

    pub(super) fn outer_health(&self, bindings: &Bindings) -> Option<Health> {
        self.document.as_ref()?.outer_health(bindings)
    }

    pub(super) fn port_names(&self) -> Vec<String> {
        let document = self.document.as_ref();
        document.map_or_else(Vec::new, |document| document.ports(0).into_iter().collect())
    }

    pub(super) fn resolve(&mut self, bindings: &Bindings) -> Result<Task, Words> {
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

/// Mesos' own description of a check that is only reported.
pub(super) fn of_check(check: &CheckInfo) -> Result<Health, Words> {
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
pub(super) fn of_mesos(check: &HealthCheck) -> Result<Health, Words> {
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

fn refused(diagnostics: &Diagnostics, source: &str) -> Words {
    invalid(diagnostics.render(source, "data", false))
}

pub(super) fn invalid(message: String) -> Words {
    unfit(Reason::TaskInvalid, message)
}

pub(super) fn unbuilt(message: String) -> Words {
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
