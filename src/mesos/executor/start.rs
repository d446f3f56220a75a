//! `dewar executor`: this process becomes the root of an executor; its runner talks to the agent.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    bounds::{Bounds, DIRECTORY},
    driver::ExecutorDriver,
};
use crate::{
    engine::{
        ipc::{JOURNAL, RunnerKind, StartRequest},
        keeper::become_root,
        runner::{Steering, runner_main},
    },
    journal::{Executor, HEADER_VERSION, Header},
    mesos::protocol::{AgentEnvironment, EnvironmentError, Wire},
    sandbox::Account,
};

/// The hidden verb by which an executor's runner is exec'ed.
pub const EXECUTOR_RUNNER_VERB: &str = "__executor-runner";

/// The runner of an executor. Its setting is in the environment, where the next runner finds it
/// too.
pub const EXECUTOR_RUNNER: RunnerKind = RunnerKind {
    verb: EXECUTOR_RUNNER_VERB,
    main: |setup| runner_main(setup, steering),
};

/// Why there is no executor.
#[derive(Debug, Error)]
pub enum ExecutorError {
    /// The environment is not one that an agent gives to an executor.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The sandbox cannot be used.
    #[error("cannot use the sandbox {path}: {why}")]
    Sandbox {
        /// The sandbox that the agent names.
        path: PathBuf,
        /// Why it cannot be used.
        why: String,
    },
    /// The root could not be started.
    #[error("{0}")]
    Failed(String),
}

fn steering() -> Option<Box<dyn Steering>> {
    match ExecutorDriver::from_environment() {
        Ok(steering) => Some(Box::new(steering)),
        Err(error) => {
            // The root could read it; without it the runner cannot reach the agent.
            tracing::error!("{error}");
            #[expect(clippy::exit, reason = "the keeper starts another runner")]
            std::process::exit(70);
        }
    }
}

/// Turns this process into the root of an executor, and returns the exit code when the executor has
/// ended. Its tasks are also listed under `root`, if that is writable.
///
/// # Errors
/// If the environment or the sandbox cannot be used, or no root can be started.
pub fn start(wire: Wire, root: Option<&Path>, bounds: Bounds) -> Result<u8, ExecutorError> {
    let environment = AgentEnvironment::read(|name| std::env::var(name).ok())?;
    let sandbox = &environment.sandbox;
    let unusable = |why: String| ExecutorError::Sandbox {
        path: sandbox.clone(),
        why,
    };
    let directory = own_directory(sandbox).map_err(|error| unusable(error.to_string()))?;
    if directory.join(JOURNAL).exists() {
        return Err(unusable("an executor has used it before".to_owned()));
    }
    let directory = directory
        .into_os_string()
        .into_string()
        .map_err(|path| unusable(format!("{} is not UTF-8", path.display())))?;
    let account = Account::own();
    let header = Header {
        version: HEADER_VERSION,
        task_id: environment.executor_id.clone(),
        user: account.name,
        uid: account.uid,
        gid: account.gid,
        executor: Some(Executor {
            framework_id: environment.framework_id,
            executor_id: environment.executor_id,
            json: wire == Wire::Json,
            root: root.map_or_else(String::new, |root| root.display().to_string()),
            enforce_task: bounds.enforce_task,
            isolation: bounds
                .isolation
                .map_or_else(String::new, |level| level.to_string()),
        }),
        needs: bounds.needs(),
        ..Header::default()
    };
    let go = StartRequest {
        directory,
        header: Some(header),
        executable: crate::sys::executable::executable(),
    };
    become_root(go, &EXECUTOR_RUNNER).map_err(|error| ExecutorError::Failed(error.to_string()))
}

fn own_directory(sandbox: &Path) -> std::io::Result<PathBuf> {
    let directory = fs::canonicalize(sandbox)?.join(DIRECTORY);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)?;
    fs::set_permissions(&directory, PermissionsExt::from_mode(0o700))?;
    Ok(directory)
}
