//! How a keeper begins a new task: its journal, its root, its first runner.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{
    error::KeeperError,
    journals::{journal_file, sync_directories},
    keeper::Keeper,
    poller::Token,
    runner_process::fork_runner,
    shared::Shared,
};
use crate::{
    engine::ipc::StartError,
    journal::{Cover, Header, Journal},
};

impl Keeper {
    /// Begins a new task. The client is handed to the first runner.
    ///
    /// # Errors
    /// Why it cannot begin; the client has been told it too, where it waits for that.
    pub fn begin(
        shared: Shared,
        header: Header,
        client: Option<UnixStream>,
    ) -> Result<Keeper, KeeperError> {
        let again = || client.as_ref().map(UnixStream::try_clone).transpose();
        let tell = again().map_err(KeeperError::system("dup"))?;
        let inherited = again().map_err(KeeperError::system("dup"))?;
        let refuse = |what: &'static str, source: io::Error| {
            let error = KeeperError::Directory {
                what,
                path: shared.path.clone(),
                source,
            };
            if let Some(tell) = &tell {
                StartError::failed(error.to_string()).send(tell);
            }
            error
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
        let adopted = keeper.adopt_runner(runner);
        adopted.map_err(KeeperError::system("watch the runner"))?;
        Ok(keeper)
    }

    /// Under Mesos the root is the container's first process: the agent takes its death for the
    /// end of the container, so everything ends with it.
    fn watch_root(&mut self) -> Result<(), KeeperError> {
        let root = nix::unistd::getppid();
        let failed = KeeperError::system::<io::Error>("watch the root");
        let pidfd = Pid::from_raw(root.as_raw())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
            .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?))
            .map_err(&failed)?;
        self.poller
            .watch(pidfd.as_fd(), Token::Root, 0)
            .map_err(&failed)?;
        // It died before it was watched, and its pid is another process' by now.
        if nix::unistd::getppid() != root {
            return Err(KeeperError::RootDied);
        }
        self.root = Some(pidfd);
        Ok(())
    }

    /// The root died, with which everything ends.
    pub fn root_died(&mut self) {
        tracing::error!("the container's first process died: killing everything and leaving");
        if let Some(root) = self.root.take() {
            self.poller.forget(root.as_fd());
        }
        self.end_all();
        self.is_leaving = true;
        self.stop_listening();
    }
}
