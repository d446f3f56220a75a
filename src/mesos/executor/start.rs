//! `dewar executor`: from the agent's environment to a root in this process' place, and the runner
//! that talks to the agent.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    bounds::{Bounds, DIRECTORY},
    overseer::MesosOverseer,
};
use crate::{
    engine::{
        ipc::{JOURNAL, RunnerKind, StartRequest},
        keeper::become_root,
        runner::{Overseer, runner_main},
    },
    journal::{Executor, Header},
    mesos::protocol::{AgentEnvironment, EnvironmentError, Wire},
    sandbox::Account,
};

/// The hidden verb by which an executor's runner is exec'ed.
pub const EXECUTOR_RUNNER_VERB: &str = "__executor-runner";

/// What becomes an executor's runner. Its setting is in the environment, where a successor finds it
/// again.
pub const EXECUTOR_RUNNER: RunnerKind = RunnerKind {
    verb: EXECUTOR_RUNNER_VERB,
    main: |setup| runner_main(setup, overseer),
};

/// Why there is no executor.
#[derive(Debug, Error)]
pub enum ExecutorError {
    /// Not started by an agent.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The sandbox cannot be used.
    #[error("cannot use the sandbox {path}: {why}")]
    Sandbox {
        /// Where.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Ours.
    #[error("{0}")]
    Failed(String),
}

fn overseer() -> Option<Box<dyn Overseer>> {
    match MesosOverseer::from_environment() {
        Ok(overseer) => Some(Box::new(overseer)),
        Err(error) => {
            // It was readable when the executor began; without it nobody can be spoken to.
            tracing::error!("{error}");
            std::process::exit(70);
        }
    }
}

/// Becomes an executor: this process waits as its root. Returns the exit code when all is over. Its
/// tasks are also shown under `root`, where that can be written.
///
/// # Errors
/// Before anything began.
pub fn begin(wire: Wire, root: Option<&Path>, bounds: Bounds) -> Result<u8, ExecutorError> {
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
        version: 1,
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
        ..Header::default()
    };
    let go = StartRequest {
        directory,
        header: Some(header),
        executable: crate::engine::client::executable(),
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
