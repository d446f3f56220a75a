//! What a Mesos agent tells an executor through its environment.

use std::{path::PathBuf, time::Duration};

use thiserror::Error;

use super::duration::parse_duration;
use crate::web::Address;

/// The grace period when the agent names none.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
const GRACE_PERIOD: Duration = Duration::from_secs(5);
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The agent's address, and what it expects of the executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentEnvironment {
    /// The framework's id.
    pub framework_id: String,
    /// The executor's id.
    pub executor_id: String,
    /// Where the agent listens.
    pub address: Address,
    /// The path of its executor API.
    pub path: String,
    /// The container's directory.
    pub sandbox: PathBuf,
    /// The token that the executor sends; only where the agent authenticates executors.
    pub token: Option<String>,
    /// How long an agent may be away; `None` without checkpointing.
    pub recovery_timeout: Option<Duration>,
    /// The longest pause between attempts to subscribe.
    pub backoff_max: Duration,
    /// How long the container lives after SHUTDOWN.
    pub grace_period: Duration,
}

/// Every variable that is missing or cannot be read, as a text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("this is not the environment of a Mesos executor:\n{}", .0.join("\n"))]
pub struct EnvironmentError(Vec<String>);

impl AgentEnvironment {
    /// Reads the variables, as `get` returns them.
    ///
    /// # Errors
    /// Every variable that is missing or cannot be read.
    pub fn read(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<AgentEnvironment, EnvironmentError> {
        let mut wrong = Vec::new();
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let mut required = |name: &str| {
            get(name).unwrap_or_else(|| {
                wrong.push(format!("  {name} is not set"));
                String::new()
            })
        };
        let framework_id = required("MESOS_FRAMEWORK_ID");
        let executor_id = required("MESOS_EXECUTOR_ID");
        let sandbox = match get("MESOS_SANDBOX") {
            Some(sandbox) => sandbox,
            None => required("MESOS_DIRECTORY"),
        };
        let address = match get("MESOS_DOMAIN_SOCKET") {
            Some(path) => Address::Unix(PathBuf::from(path)),
            None => Address::Tcp(required("MESOS_AGENT_ENDPOINT")),
        };
        let mut duration = |name: &str, default: Duration| match get(name) {
            None => default,
            Some(text) => parse_duration(&text).unwrap_or_else(|error| {
                wrong.push(format!("  {name}: {error}"));
                default
            }),
        };
        let backoff_max = duration("MESOS_SUBSCRIPTION_BACKOFF_MAX", BACKOFF_MAX);
        let grace_period = duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", GRACE_PERIOD);
        let recovery_timeout = duration("MESOS_RECOVERY_TIMEOUT", RECOVERY_TIMEOUT);
        let checkpoint = get("MESOS_CHECKPOINT").as_deref() == Some("1");
        // At the domain socket the path has only this form, from `slave(1)@ip:port`.
        let process =
            get("MESOS_SLAVE_PID").and_then(|pid| Some(pid.split_once('@')?.0.to_owned()));
        let environment = AgentEnvironment {
            framework_id,
            executor_id,
            address,
            path: match process {
                Some(process) => format!("/{process}/api/v1/executor"),
                None => "/api/v1/executor".to_owned(),
            },
            sandbox: PathBuf::from(sandbox),
            token: get("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"),
            recovery_timeout: checkpoint.then_some(recovery_timeout),
            backoff_max,
            grace_period,
        };
        match wrong.is_empty() {
            true => Ok(environment),
            false => Err(EnvironmentError(wrong)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<AgentEnvironment, EnvironmentError> {
        AgentEnvironment::read(|name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn an_agents_environment() {
        let mut variables = vec![
            ("MESOS_FRAMEWORK_ID", "f"),
            ("MESOS_EXECUTOR_ID", "e"),
            ("MESOS_SANDBOX", "/sandbox"),
            ("MESOS_SLAVE_PID", "slave(1)@10.0.0.1:5051"),
            ("MESOS_AGENT_ENDPOINT", "10.0.0.1:5051"),
            ("MESOS_CHECKPOINT", "1"),
            ("MESOS_RECOVERY_TIMEOUT", "15mins"),
        ];
        let found = read(&variables).unwrap();
        assert_eq!(found.address, Address::Tcp("10.0.0.1:5051".to_owned()));
        assert_eq!(found.path, "/slave(1)/api/v1/executor");
        assert_eq!(found.recovery_timeout, Some(Duration::from_secs(900)));
        variables.push(("MESOS_DOMAIN_SOCKET", "/run/agent.sock"));
        variables.retain(|(name, _)| *name != "MESOS_CHECKPOINT");
        let found = read(&variables).unwrap();
        assert_eq!(found.address, Address::Unix("/run/agent.sock".into()));
        assert_eq!(found.recovery_timeout, None);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let error = read(&[("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "soon")]).unwrap_err();
        insta::assert_snapshot!(error, @r#"
        this is not the environment of a Mesos executor:
          MESOS_FRAMEWORK_ID is not set
          MESOS_EXECUTOR_ID is not set
          MESOS_DIRECTORY is not set
          MESOS_AGENT_ENDPOINT is not set
          MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD: "soon" is no duration: expected a number and one of ns, us, ms, secs, mins, hrs, days, weeks
        "#);
    }
}
