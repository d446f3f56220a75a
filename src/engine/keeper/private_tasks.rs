//! Private tasks: their namespaces are built at the first launch, found again by a successor, and
//! gone with the task.

use std::{
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
};

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{
    keeper::Keeper,
    namespaces::{PrivateError, blueprint, build},
    poller::Token,
};
use crate::{
    journal::{Init, Kind},
    protocols::dewar::link as wire,
    sandbox::private::InitProcess,
    sys::{process, retry::again},
};

impl Keeper {
    /// Makes sure that the namespaces of a private task are there.
    ///
    /// # Errors
    /// Which step of building them failed.
    pub(super) fn prepare_namespaces(
        &mut self,
        task: u32,
        command: &wire::Launch,
    ) -> Result<(), PrivateError> {
        let Some(private) = &command.private else {
            return Ok(());
        };
        self.namespaces.need_filters(private)?;
        if self.namespaces.are_complete(task, private) {
            return Ok(());
        }
        let sandbox = Path::new(std::ffi::OsStr::from_bytes(&command.sandbox));
        let blueprint = blueprint(sandbox, private)?;
        if !self.namespaces.has(task) {
            let init = build(&blueprint)?;
            self.keep_init(task, init)?;
        }
        self.namespaces.make_rules(task, private, &blueprint)
    }

    fn keep_init(&mut self, task: u32, init: Option<InitProcess>) -> Result<(), PrivateError> {
        let serial = self.namespaces.next_serial();
        let mut known = None;
        if let Some(init) = &init {
            self.poller.watch(init.pidfd.as_fd(), Token::Init, serial)?;
            let record = Init {
                pid: init.pid as u32,
                start_ticks: process::stat(init.pid).map_or(0, |stat| stat.start_ticks),
                namespaces: init.namespaces() as u32,
            };
            known = Some(self.record(task, Kind::Init(record)));
        }
        self.namespaces.insert(task, init, serial, known);
        Ok(())
    }

    /// Finds the init that an earlier keeper built, if it is still there.
    pub(super) fn resume_init(&mut self, task: u32, init: &Init) {
        let pid = init.pid as i32;
        let opened = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let is_it = process::stat(pid)
            .is_some_and(|stat| stat.start_ticks == init.start_ticks && !stat.is_dead());
        if let (Some(Ok(pidfd)), true) = (opened, is_it) {
            let Some(found) = InitProcess::adopt(pid, pidfd, init.namespaces as i32) else {
                return;
            };
            let serial = self.namespaces.next_serial();
            let watched = self.poller.watch(found.pidfd.as_fd(), Token::Init, serial);
            if let Err(error) = watched {
                tracing::error!("cannot watch the init {pid}: {error}");
            }
            self.namespaces.insert(task, Some(found), serial, None);
        }
    }

    /// An init is dead, and with it all that was in its pid namespace; the next launch builds anew.
    pub(super) fn init_died(&mut self, serial: usize) {
        if let Some(init) = self.namespaces.take_dead(serial) {
            self.poller.forget(init.pidfd.as_fd());
            // An init that is the child of another process is reaped by that one.
            let id = || Id::PIDFd(init.pidfd.as_fd());
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
            if let Err(errno) = again(|| waitid(id(), flags)) {
                tracing::debug!("reaping the init {}: {errno}", init.pid);
            }
        }
        self.children_changed = true;
    }
}
