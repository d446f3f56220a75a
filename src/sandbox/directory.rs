//! Making the sandbox's directory.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
};

use super::Account;
use thiserror::Error;

/// Why there is no sandbox.
#[derive(Debug, Error)]
#[error("cannot {what} the sandbox {path}: {source}")]
pub struct SandboxError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Makes `path` unless it exists, for `owner`. Returns it without links.
///
/// # Errors
/// What the system says, and of what.
pub fn prepare(path: &Path, owner: &Account) -> Result<PathBuf, SandboxError> {
    let fail = |what| {
        move |source| SandboxError {
            what,
            path: path.to_path_buf(),
            source,
        }
    };
    let existed = path.is_dir();
    if !existed {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(fail("make"))?;
    }
    let path = fs::canonicalize(path).map_err(fail("find"))?;
    let uid = fs::metadata(&path).map_err(|source| SandboxError {
        what: "look at",
        path: path.clone(),
        source,
    })?;
    if !existed && uid.uid() != owner.uid {
        chown(&path, Some(owner.uid), Some(owner.gid)).map_err(|source| SandboxError {
            what: "give away",
            path: path.clone(),
            source,
        })?;
    }
    Ok(path)
}
