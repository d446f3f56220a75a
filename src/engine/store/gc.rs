//! Removing the directories of old tasks: which of them (pure), and how.
//!
//! A task that lives, that cannot be read, or that belongs to an executor is never removed, nor is
//! a sandbox outside the task's directory. A task is removed in two steps: its directory gets a
//! hidden name, then what is in it is removed. A collection that is killed between the steps leaves
//! a hidden directory, which the next collection removes.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::store::{Store, StoreError};
use crate::{
    engine::{
        ipc::{live_file, open_directory},
        plan::TaskState,
    },
    journal::open_locked,
};

/// The names of directories that are being removed begin with this.
const LEAVING: &str = ".gc-";

/// How many tasks that are over may stay. A limit that is not set removes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Tasks that ended longer ago than this go, microseconds.
    pub age_us: Option<u64>,
    /// At most so many tasks that are over stay.
    pub count: Option<usize>,
    /// At most so many bytes of tasks that are over stay.
    pub bytes: Option<u64>,
}

/// A task that is over and may be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The id of the task.
    pub id: String,
    /// When it ended, microseconds since 1970.
    pub ended_us: u64,
    /// How much its files take on disk.
    pub bytes: u64,
}

/// The result of a collection.
#[derive(Debug, Default)]
pub struct Collected {
    /// The tasks that were (or would be) removed, the oldest first.
    pub removed: Vec<Candidate>,
    /// The tasks that could not be removed or read, each with the reason.
    pub failed: Vec<(String, String)>,
}

impl Policy {
    /// Those of `candidates` that go at `now` (microseconds since 1970): the oldest first.
    pub fn choose(&self, mut candidates: Vec<Candidate>, now: u64) -> Vec<Candidate> {
        candidates.sort_by(|a, b| (b.ended_us, &b.id).cmp(&(a.ended_us, &a.id)));
        let mut kept = (0, 0u64);
        let mut gone = Vec::new();
        for candidate in candidates {
            let is_old = self
                .age_us
                .is_some_and(|age| now.saturating_sub(candidate.ended_us) > age);
            let is_too_many = self.count.is_some_and(|count| kept.0 >= count);
            let bytes = kept.1.saturating_add(candidate.bytes);
            let is_too_much = self.bytes.is_some_and(|most| bytes > most);
            if is_old || is_too_many || is_too_much {
                gone.push(candidate);
            } else {
                kept = (kept.0 + 1, bytes);
            }
        }
        gone.reverse();
        gone
    }
}

/// Removes the tasks that `policy` chooses; with `is_trial`, only returns them.
///
/// # Errors
/// When the tasks cannot be listed. A failure over one task is in the result, and the others go on.
pub fn collect(
    store: &Store,
    policy: &Policy,
    now: u64,
    is_trial: bool,
) -> Result<Collected, StoreError> {
    let mut collected = Collected::default();
    if !is_trial {
        sweep(store, &mut collected);
    }
    let mut candidates = Vec::new();
    let ids = store.ids()?;
    for id in &ids {
        match candidate(store, id) {
            Ok(found) => candidates.extend(found),
            Err(error) => collected.failed.push((id.clone(), error.to_string())),
        }
    }
    let chosen = policy.choose(candidates, now);
    let lived_in = sandboxes(store, &ids)?;
    for candidate in chosen {
        let own = real(store.directory(&candidate.id)?);
        let guest = lived_in
            .iter()
            .find(|(id, sandbox)| *id != candidate.id && sandbox.starts_with(&own));
        if let Some((guest, _)) = guest {
            let why = format!("the sandbox of {guest} is in it; remove {guest} first");
            collected.failed.push((candidate.id, why));
            continue;
        }
        if is_trial {
            collected.removed.push(candidate);
            continue;
        }
        match remove(store, &candidate.id) {
            Ok(true) => collected.removed.push(candidate),
            // A keeper has it, or another collection.
            Ok(false) => {}
            Err(error) => collected.failed.push((candidate.id, error.to_string())),
        }
    }
    Ok(collected)
}

/// `path` without links; itself, when it is gone.
fn real(path: PathBuf) -> PathBuf {
    fs::canonicalize(&path).unwrap_or(path)
}

/// The sandbox of each task: a user may have named a directory inside another task's.
fn sandboxes(store: &Store, ids: &[String]) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for id in ids {
        match store.load(id) {
            Ok(Some(stored)) => {
                found.push((id.clone(), real(PathBuf::from(stored.status.sandbox))));
            }
            Ok(None) => {}
            // It is in the result already: the search for candidates met the same error.
            Err(error) => tracing::info!("{id}: {error}"),
        }
    }
    Ok(found)
}

/// The task as a candidate, if it is over and lives here. The tasks of executors are removed by
/// their agents.
fn candidate(store: &Store, id: &str) -> Result<Option<Candidate>, StoreError> {
    if store.belongs_to_executor(id) {
        return Ok(None);
    }
    let Some(stored) = store.load(id)? else {
        return Ok(None);
    };
    let state = stored.model.plan.state();
    let last = stored.status.states.last();
    let ended = last.map(|last| last.at.timestamp());
    if !state.is_some_and(TaskState::is_terminal) || stored.status.keeper_pid.is_some() {
        return Ok(None);
    }
    Ok(Some(Candidate {
        id: id.to_owned(),
        ended_us: ended.map_or(0, |ended| ended.as_microsecond().max(0) as u64),
        bytes: size_of(&store.directory(id)?),
    }))
}

/// Removes a task; false when a keeper has it, or another collection.
fn remove(store: &Store, id: &str) -> io::Result<bool> {
    let directory = store.directory(id).map_err(io::Error::other)?;
    let opened = open_directory(&directory.display().to_string())?;
    let Some(lock) = open_locked(&opened, live_file(&opened))? else {
        return Ok(false);
    };
    // It may be another task by now, which a client is about to begin.
    if !candidate(store, id).is_ok_and(|found| found.is_some()) {
        return Ok(false);
    }
    let hidden = hidden(&directory)?;
    fs::rename(&directory, &hidden)?;
    // Links are removed, never followed: a sandbox elsewhere stays.
    remove_tree(&hidden)?;
    drop(lock);
    Ok(true)
}

/// Removes everything below `path`, also below directories that their owner may not write to (as
/// package managers and compilers leave them).
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path);
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

/// Lets the owner of the directories from `path` down read and write them, where that can be done.
fn open_up(path: &Path) {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return;
    };
    if !meta.is_dir() {
        return;
    }
    let mut mode = meta.permissions();
    mode.set_mode(mode.mode() | 0o700);
    if let Err(error) = fs::set_permissions(path, mode) {
        tracing::info!("{}: {error}", path.display());
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        open_up(&entry.path());
    }
}

fn hidden(directory: &Path) -> io::Result<PathBuf> {
    let parent = directory.parent().ok_or(io::ErrorKind::NotFound)?;
    Ok(parent.join(format!("{LEAVING}{}", uuid::Uuid::new_v4())))
}

/// Removes the hidden directories that earlier collections left when they were killed.
fn sweep(store: &Store, collected: &mut Collected) {
    let Ok(entries) = fs::read_dir(store.tasks()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(LEAVING)
            && let Err(error) = remove_tree(&entry.path())
        {
            collected.failed.push((name, error.to_string()));
        }
    }
}

/// Bytes on disk of all files below `path`, links not followed. A directory that cannot be read
/// counts only itself.
fn size_of(path: &Path) -> u64 {
    const BLOCK: u64 = 512;
    let own = fs::symlink_metadata(path).map_or(0, |meta| meta.blocks() * BLOCK);
    let Ok(entries) = fs::read_dir(path) else {
        return own;
    };
    let below = entries.flatten().map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size_of(&entry.path()),
        _ => fs::symlink_metadata(entry.path()).map_or(0, |meta| meta.blocks() * BLOCK),
    });
    own + below.sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(policy: Policy) -> Vec<String> {
        let candidate = |id: &str, ended_us, bytes| Candidate {
            id: id.to_owned(),
            ended_us,
            bytes,
        };
        let candidates = vec![
            candidate("new", 900, 10),
            candidate("old", 100, 10),
            candidate("large", 800, 100),
            candidate("middle", 500, 10),
        ];
        let gone = policy.choose(candidates, 1000);
        gone.into_iter().map(|candidate| candidate.id).collect()
    }

    #[test]
    fn each_limit_lets_the_oldest_go() {
        let none = Policy::default();
        assert!(chosen(none).is_empty());
        let age_us = Some(300);
        assert_eq!(chosen(Policy { age_us, ..none }), ["old", "middle"]);
        let count = Some(1);
        assert_eq!(chosen(Policy { count, ..none }), ["old", "middle", "large"]);
        // One that is too large for what is left does not take smaller ones with it.
        let bytes = Some(30);
        assert_eq!(chosen(Policy { bytes, ..none }), ["large"]);
    }
}
