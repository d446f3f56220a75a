//! The directories of tasks: ROOT/tasks/ID/{journal, live, socket, engine.log, sandbox}.
//!
//! Looking changes nothing. A directory that another user could have written is not trusted.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    engine::{
        history::{Model, TaskStatus},
        ipc::{Holder, HoldersView, JOURNAL, LIVE},
    },
    journal::{self, Beyond, Header, JournalError, check_understood},
    sys::clock::now,
};

/// The directory of all tasks.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// Why a task cannot be read or begun.
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is no such task.
    #[error("no task {0:?} here")]
    Unknown(String),
    /// The id cannot be a directory's name.
    #[error("bad task id {0:?}: expected a name without '/' that does not begin with '.'")]
    BadId(String),
    /// The system refused an operation on a file.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// The verb for what was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another user could have written the task's directory.
    #[error("{path} is not trusted: {why}")]
    Untrusted {
        /// The task's directory.
        path: PathBuf,
        /// Why it is not trusted.
        why: &'static str,
    },
    /// The task's journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The task is one of a later version, of which this one cannot even show the state.
    #[error(transparent)]
    Beyond(Beyond),
    /// The task in the journal's header cannot be read.
    #[error("the task in the header of {path} cannot be read: {source}")]
    Header {
        /// The journal's file.
        path: PathBuf,
        /// The decoder's error.
        source: serde_json::Error,
    },
}

impl StoreError {
    /// True when the record itself is bad: the task is lost. That a record cannot be read just now
    /// (no descriptors, no rights) says nothing about it.
    pub fn is_distrust(&self) -> bool {
        match self {
            // A later version can read the last of these.
            StoreError::Journal(JournalError::Io { .. } | JournalError::Later { .. }) => false,
            StoreError::Journal(_) => true,
            _ => false,
        }
    }
}

/// A task as its files describe it.
#[derive(Debug)]
pub struct Stored {
    /// The header of its journal.
    pub header: Header,
    /// Its journal, replayed.
    pub model: Model,
    /// Its status as programs read it.
    pub status: TaskStatus,
    /// Why this version must not look after it, if it must not.
    pub beyond: Option<Beyond>,
}

impl Store {
    /// The tasks under `root`.
    pub fn new(root: PathBuf) -> Store {
        Store { root }
    }

    /// The directory of all tasks.
    pub fn tasks(&self) -> PathBuf {
        self.root.join("tasks")
    }

    /// The directory of a task.
    ///
    /// # Errors
    /// [`StoreError::BadId`].
    pub fn directory(&self, id: &str) -> Result<PathBuf, StoreError> {
        match is_task_id(id) {
            true => Ok(self.tasks().join(id)),
            false => Err(StoreError::BadId(id.to_owned())),
        }
    }

    /// Makes the directory of a task; fine if it exists.
    ///
    /// # Errors
    /// The system's error.
    pub fn make_directory(&self, id: &str) -> Result<PathBuf, StoreError> {
        let path = self.directory(id)?;
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&path);
        made.map_err(|source| StoreError::Io {
            what: "make",
            path: path.clone(),
            source,
        })?;
        // A link in the root's path would make paths that outlive it wrong.
        fs::canonicalize(&path).map_err(|source| StoreError::Io {
            what: "find",
            path,
            source,
        })
    }

    /// Shows a task that lives elsewhere: ROOT/tasks/ID becomes a link to `directory`. Links to
    /// directories that are gone are removed.
    ///
    /// # Errors
    /// The system's error.
    pub fn point(&self, id: &str, directory: &Path) -> Result<(), StoreError> {
        let path = self.directory(id)?;
        let tasks = self.tasks();
        let fail = |what, path: &Path| {
            let path = path.to_path_buf();
            move |source| StoreError::Io { what, path, source }
        };
        fs::create_dir_all(&tasks).map_err(fail("make", &tasks))?;
        for entry in fs::read_dir(&tasks)
            .map_err(fail("list", &tasks))?
            .flatten()
        {
            let pointer = entry.path();
            let is_pointer = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if is_pointer && !pointer.exists() {
                // Another user's link, or one that another process removed first: both are
                // harmless.
                if let Err(error) = fs::remove_file(&pointer) {
                    tracing::debug!("{}: {error}", pointer.display());
                }
            }
        }
        if path.exists() && !path.is_symlink() {
            return Err(fail("make", &path)(io::ErrorKind::AlreadyExists.into()));
        }
        // An id may have been used before: the link is the newest task's. Renaming replaces an
        // earlier link at once.
        let fresh = tasks.join(format!(".{}", uuid::Uuid::new_v4()));
        std::os::unix::fs::symlink(directory, &fresh).map_err(fail("make", &fresh))?;
        fs::rename(&fresh, &path).map_err(fail("make", &path))
    }

    /// True when the task belongs to an executor: it ends with its executor, and no client takes it
    /// up again.
    pub fn belongs_to_executor(&self, id: &str) -> bool {
        self.directory(id).is_ok_and(|path| path.is_symlink())
    }

    /// The ids of all tasks, sorted.
    ///
    /// # Errors
    /// The system's error; a root that does not exist has no tasks.
    pub fn ids(&self) -> Result<Vec<String>, StoreError> {
        let path = self.tasks();
        let fail = |source| StoreError::Io {
            what: "list",
            path: path.clone(),
            source,
        };
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(fail(error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(fail)?.file_name();
            ids.extend(name.into_string().ok().filter(|id| !id.starts_with('.')));
        }
        ids.sort();
        Ok(ids)
    }

    /// A task as its files describe it; `None` when it never began.
    ///
    /// # Errors
    /// When there is no such task, or its files cannot be used.
    pub fn load(&self, id: &str) -> Result<Option<Stored>, StoreError> {
        let (directory, owner) = trusted(id, self.directory(id)?)?;
        let path = directory.join(JOURNAL);
        let replay = match journal::read_of(&path, owner) {
            Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            read => read?,
        };
        let Some(replay) = replay else {
            return Ok(None);
        };
        let beyond = check_understood(&replay.header, &replay.records).err();
        let model = Model::replay(&replay, usize::MAX).map_err(|source| match &beyond {
            Some(beyond) => StoreError::Beyond(beyond.clone()),
            None => StoreError::Header {
                path: path.clone(),
                source,
            },
        })?;
        let view = fs::File::open(directory.join(LIVE)).and_then(|file| HoldersView::read(&file));
        let pid = |holder| view.as_ref().ok().and_then(|view| view.pid(holder));
        let pids = [pid(Holder::Root), pid(Holder::Keeper), pid(Holder::Runner)];
        let status = model
            .history
            .status(&model.plan, &path.display().to_string(), pids, now());
        Ok(Some(Stored {
            header: replay.header,
            model,
            status,
            beyond,
        }))
    }
}

/// True when `id` can be a task's id: it can be a directory's name.
pub fn is_task_id(id: &str) -> bool {
    let is_bad = id.is_empty() || id.starts_with('.') || id.contains(['/', '\0']);
    !is_bad && id.len() <= 255
}

/// The directory of a task, links followed, if it can be trusted, and the user id of its owner. The
/// directory must belong to this user, and a link too. For root, a link may belong to any user; the
/// directory behind it must then belong to the same one.
fn trusted(id: &str, directory: PathBuf) -> Result<(PathBuf, u32), StoreError> {
    let look = |directory: &Path| match fs::symlink_metadata(directory) {
        Ok(meta) => Ok(meta),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(StoreError::Unknown(id.to_owned()))
        }
        Err(source) => Err(StoreError::Io {
            what: "look at",
            path: directory.to_path_buf(),
            source,
        }),
    };
    let mut directory = directory;
    let mut meta = look(&directory)?;
    let mut owner = nix::unistd::geteuid().as_raw();
    if meta.is_symlink() && (meta.uid() == owner || owner == 0) {
        owner = meta.uid();
        directory = match fs::canonicalize(&directory) {
            Ok(target) => target,
            // The agent removed what it pointed to.
            Err(_) => return Err(StoreError::Unknown(id.to_owned())),
        };
        meta = look(&directory)?;
    }
    let untrusted = |why| {
        Err(StoreError::Untrusted {
            path: directory.clone(),
            why,
        })
    };
    if !meta.is_dir() {
        return untrusted("it is no directory");
    }
    if meta.uid() != owner {
        return untrusted("it belongs to another user");
    }
    if meta.mode() & 0o022 != 0 {
        return untrusted("its group or others may write it (chmod go-w)");
    }
    Ok((directory, owner))
}
