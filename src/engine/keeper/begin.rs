//! How a keeper begins: its journals, its root, its first runner.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{
    keeper::{Keeper, Token},
    runner_process::fork_runner,
    shared::Shared,
};
use crate::{
    engine::ipc::{JOURNAL, StartError},
    journal::{Cover, FileStorage, Header, Journal},
};

pub(super) fn journal_file(shared: &Shared) -> io::Result<FileStorage> {
    FileStorage::open(shared.directory.try_clone()?, JOURNAL)
}

/// A new file is durable only when its directory, and that one's entry, are.
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

impl Keeper {
    /// Begins a new task: its journal, its first runner.
    ///
    /// # Errors
    /// A message; the client has been told it too.
    pub fn begin(
        shared: Shared,
        header: Header,
        client: Option<UnixStream>,
    ) -> Result<Keeper, String> {
        let again = || client.as_ref().map(UnixStream::try_clone).transpose();
        let tell = again().map_err(|error| error.to_string())?;
        let inherited = again().map_err(|error| error.to_string())?;
        let refuse = |what: &str, error: io::Error| {
            let message = format!("cannot {what} in {}: {error}", shared.path);
            let refusal = StartError {
                busy: false,
                message: message.clone(),
            };
            if let Some(tell) = &tell {
                refusal.send(tell);
            }
            message
        };
        let runner = fork_runner(
            &shared.listener,
            &shared.directory,
            client.map(OwnedFd::from),
            inherited.map(OwnedFd::from).into_iter().collect(),
            shared.runner,
        )
        .map_err(|error| refuse("start the runner", error))?;
        let storage = journal_file(&shared).map_err(|error| refuse("open the journal", error))?;
        let journal =
            Journal::create(storage).map_err(|error| refuse("write the journal", error))?;
        let sync = shared
            .directory
            .try_clone()
            .and_then(|directory| sync_directories(directory, &shared.path))
            .map_err(|error| refuse("sync", error))?;
        let mut keeper = Keeper::new(shared)?;
        keeper.keep(0, keeper.shared.path.clone(), &header);
        keeper.writer.add(0, journal, 0, Some(sync));
        // They reach the disk together with the first start; the runner hears of them before.
        let is_executor = header.executor.is_some();
        keeper.begin_journal(0, header, Cover::Whole);
        if is_executor {
            keeper.watch_root()?;
        }
        keeper.adopt_runner(runner)?;
        Ok(keeper)
    }

    /// Under Mesos the root is the container's first process: the agent takes its death for the
    /// end of the container, so everything ends with it.
    fn watch_root(&mut self) -> Result<(), String> {
        let root = nix::unistd::getppid();
        let failed = |error: io::Error| format!("watch the root: {error}");
        let pidfd = Pid::from_raw(root.as_raw())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
            .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?))
            .map_err(failed)?;
        self.watch(pidfd.as_fd(), Token::Root.number(0))
            .map_err(failed)?;
        // It died before it was watched, and its pid is somebody else's.
        if nix::unistd::getppid() != root {
            return Err("the root died".to_owned());
        }
        self.root = Some(pidfd);
        Ok(())
    }

    pub(super) fn root_died(&mut self) {
        tracing::error!("the container's first process died: killing everything and leaving");
        if let Some(root) = self.root.take() {
            self.unwatch(root.as_fd());
        }
        self.end_all();
        self.is_leaving = true;
        self.stop_listening();
    }
}
