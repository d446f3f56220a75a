//! Opening journals, and what makes a new one durable.

use std::{fs::File, io, os::fd::OwnedFd};

use super::{journal_writer::Also, shared::Shared};
use crate::{
    engine::ipc::{JOURNAL, open_directory},
    journal::{self, FileStorage, Journal},
};

/// The group's own journal.
pub(super) fn journal_file(shared: &Shared) -> io::Result<FileStorage> {
    FileStorage::open(shared.directory.try_clone()?, JOURNAL)
}

/// What the first sync of a new journal takes along: a new file is durable only when its directory,
/// and the entry of that one, are.
pub(super) fn sync_directories(
    directory: OwnedFd,
    path: &str,
) -> io::Result<Box<dyn FnOnce() -> io::Result<()> + Send>> {
    let parent = File::open(format!("{path}/.."))?;
    Ok(Box::new(move || {
        nix::unistd::fsync(&directory)?;
        parent.sync_all()
    }))
}

/// A new journal in `path`, and what its first sync has to take along.
pub(super) fn new_journal(path: &str) -> io::Result<(Journal, Also)> {
    let directory = open_directory(path)?;
    let storage = FileStorage::open(directory.try_clone()?, JOURNAL)?;
    // One that never became durable is empty; anything else is the record of another task.
    let own = nix::unistd::geteuid().as_raw();
    let known = journal::read_file(storage.file(), path.as_ref(), own);
    if known.map_err(io::Error::other)?.is_some() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let journal = Journal::create(storage)?;
    Ok((journal, Some(sync_directories(directory, path)?)))
}
