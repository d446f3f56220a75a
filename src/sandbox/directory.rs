//! Making the sandbox's directory, or finding that one that is there can be used.
//!
//! What was made is taken away again when a later step fails: the machine is as it was.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, Uid, User, access};
use thiserror::Error;

use super::account::Account;

/// Why there is no sandbox: the step, the path, and what stands against it.
#[derive(Debug, Error)]
#[error("cannot {what} the sandbox {path}: {why}")]
pub struct SandboxError {
    what: &'static str,
    path: PathBuf,
    why: String,
}

/// Makes `path` unless it exists, for `owner`. Returns it without links.
///
/// # Errors
/// What the system says, and of what; nothing is left then that was not there before.
pub fn prepare(path: &Path, owner: &Account) -> Result<PathBuf, SandboxError> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => find(path, owner),
        Ok(_) => Err(fail("use", path, "it is no directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.is_symlink() {
            true => Err(fail("find", path, "it is a link that leads nowhere")),
            false => make(path, owner),
        },
        Err(error) => Err(fail("find", path, plain(&error))),
    }
}

/// A directory that is there already: can processes of `owner` use it?
fn find(path: &Path, owner: &Account) -> Result<PathBuf, SandboxError> {
    let real = fs::canonicalize(path).map_err(|error| fail("find", path, plain(&error)))?;
    let all = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    // With the rights of this process: for root that tells of a file system that cannot be written.
    if let Err(errno) = access(&real, all) {
        let meta = fs::metadata(&real).map_err(|error| fail("find", path, plain(&error)))?;
        let why = match errno {
            nix::errno::Errno::EACCES => belongs(meta.uid(), &owner.name),
            errno => errno.desc().to_owned(),
        };
        return Err(fail("write in", &real, why));
    }
    let own = Uid::effective().as_raw();
    if owner.uid != own {
        let meta = fs::metadata(&real).map_err(|error| fail("find", path, plain(&error)))?;
        if !may_write(&meta, owner) {
            return Err(fail("write in", &real, belongs(meta.uid(), &owner.name)));
        }
    }
    Ok(real)
}

fn belongs(uid: u32, to_whom: &str) -> String {
    let name = match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    };
    format!("it belongs to {name}, and {to_whom} may not write there")
}

/// By the mode alone; lists of rights may say more, and the processes will tell.
fn may_write(meta: &fs::Metadata, owner: &Account) -> bool {
    const WRITE_AND_ENTER: u32 = 0o3;
    let mode = match () {
        () if meta.uid() == owner.uid => meta.mode() >> 6,
        () if owner.groups().contains(&meta.gid()) => meta.mode() >> 3,
        () => meta.mode(),
    };
    owner.uid == 0 || mode & WRITE_AND_ENTER == WRITE_AND_ENTER
}

fn make(path: &Path, owner: &Account) -> Result<PathBuf, SandboxError> {
    let mut made = Vec::new();
    let result = make_all(path, owner, &mut made);
    if result.is_err() {
        for path in made.iter().rev() {
            // Another process may use it by now.
            if let Err(error) = fs::remove_dir(path) {
                tracing::info!("{} is left: {error}", path.display());
            }
        }
    }
    result
}

fn make_all(
    path: &Path,
    owner: &Account,
    made: &mut Vec<PathBuf>,
) -> Result<PathBuf, SandboxError> {
    let mut missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    missing.reverse();
    for step in missing {
        match DirBuilder::new().mode(0o755).create(step) {
            Ok(()) => made.push(step.to_path_buf()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && step.is_dir() => {}
            Err(error) if step == path => return Err(fail("make", path, plain(&error))),
            Err(error) => {
                let why = format!("{} cannot be made: {}", step.display(), plain(&error));
                return Err(fail("make", path, why));
            }
        }
    }
    let real = fs::canonicalize(path).map_err(|error| fail("find", path, plain(&error)))?;
    if owner.uid != Uid::effective().as_raw() {
        chown(&real, Some(owner.uid), Some(owner.gid))
            .map_err(|error| fail("give away", path, plain(&error)))?;
    }
    Ok(real)
}

fn fail(what: &'static str, path: &Path, why: impl Into<String>) -> SandboxError {
    SandboxError {
        what,
        path: path.to_path_buf(),
        why: why.into(),
    }
}

fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_sandbox_is_named_and_nothing_is_left() {
        let top = tempfile::tempdir().unwrap();
        let own = Account::own();
        let file = top.path().join("file");
        fs::write(&file, "").unwrap();
        let error = prepare(&file, &own).unwrap_err().to_string();
        assert!(error.ends_with("file: it is no directory"), "{error}");
        let below = top.path().join("file/below/it");
        assert!(prepare(&below, &own).is_err());
        let link = top.path().join("link");
        std::os::unix::fs::symlink("/no/such/place", &link).unwrap();
        let error = prepare(&link, &own).unwrap_err().to_string();
        assert!(error.contains("leads nowhere"), "{error}");
        // The last name is too long: what was made above it goes again.
        let long = top.path().join("a/b").join("c".repeat(300));
        let error = prepare(&long, &own).unwrap_err().to_string();
        assert!(error.contains("name too long"), "{error}");
        assert!(!top.path().join("a").exists());
        assert_eq!(
            prepare(&top.path().join("y/z"), &own).unwrap(),
            top.path().join("y/z")
        );
    }
}
