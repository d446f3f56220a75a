//! The namespaces of private tasks: built at the first launch, found again by a successor, gone with the task.
//!
//! An init is a child of ours like a run's first process, and none of the task's: it is not asked to stop, not
//! waited for, and dies last. What is orphaned in its pid namespace is its child, not ours.

use std::{
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{
    keeper::{Keeper, Token},
    namespaces::{Entrance, KeptDen, blueprint, has},
    spawn::Confinement,
};
use crate::{
    journal::{Init, Kind},
    protocols::dewar::link as wire,
    sandbox::private::{InitProcess, KEPT_CAPABILITIES, filters, landlock_abi, ruleset},
    sys::{process, retry::again},
    task::Protection,
};

impl Keeper {
    /// Makes sure that the namespaces of a private task are there.
    ///
    /// # Errors
    /// Which step of building them failed.
    pub(super) fn prepare_den(&mut self, task: u32, command: &wire::Launch) -> Result<(), String> {
        let Some(private) = &command.private else {
            return Ok(());
        };
        if has(private, Protection::Seccomp) && self.dens.filters.is_empty() {
            self.dens.filters = filters().map_err(|error| error.to_string())?;
        }
        let adopted = self.dens.all.get(&task);
        let needs_rules = has(private, Protection::Landlock) && landlock_abi() > 0;
        if adopted.is_some_and(|kept| kept.rules.is_some() || !needs_rules) {
            return Ok(());
        }
        let sandbox = Path::new(std::ffi::OsStr::from_bytes(&command.sandbox));
        let blueprint = blueprint(sandbox, private)?;
        if adopted.is_none() {
            let den = match blueprint.namespaces() & !libc::CLONE_NEWUSER {
                0 => None,
                _ => Some(InitProcess::build(&blueprint).map_err(|error| error.to_string())?),
            };
            self.keep_den(task, den)?;
        }
        if needs_rules && let Some(kept) = self.dens.all.get_mut(&task) {
            let root = match &kept.den {
                Some(den) if den.namespaces() & libc::CLONE_NEWNS != 0 => {
                    PathBuf::from(format!("/proc/{}/root", den.pid))
                }
                _ => PathBuf::from("/"),
            };
            kept.rules = ruleset(&root, blueprint.writable()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn keep_den(&mut self, task: u32, den: Option<InitProcess>) -> Result<(), String> {
        self.dens.serials += 1;
        let mut kept = KeptDen {
            den,
            rules: None,
            known: None,
            serial: self.dens.serials,
        };
        if let Some(den) = &kept.den {
            self.watch(den.pidfd.as_fd(), Token::InitProcess.number(kept.serial))
                .map_err(|error| error.to_string())?;
            let init = Init {
                pid: den.pid as u32,
                start_ticks: process::stat(den.pid).map_or(0, |stat| stat.start_ticks),
                namespaces: den.namespaces() as u32,
            };
            kept.known = Some(self.record(task, Kind::Init(init)));
        }
        self.dens.all.insert(task, kept);
        Ok(())
    }

    /// How a child of this task enters; `None`: it is not private.
    pub(super) fn entrance(&self, task: u32, command: &wire::Launch) -> Option<Entrance<'_>> {
        let private = command.private.as_ref()?;
        let kept = self.dens.all.get(&task);
        let is_root = nix::unistd::geteuid().is_root();
        let kept_capabilities = if is_root { KEPT_CAPABILITIES } else { 0 };
        Some(Entrance {
            den: kept.and_then(|kept| kept.den.as_ref()),
            confinement: Confinement {
                capabilities: has(private, Protection::Capabilities).then_some(kept_capabilities),
                no_new_privs: has(private, Protection::NoNewPrivs),
                ruleset: kept
                    .and_then(|kept| kept.rules.as_ref())
                    .map(|rules| rules.as_fd()),
                filters: match has(private, Protection::Seccomp) {
                    true => &self.dens.filters,
                    false => &[],
                },
            },
        })
    }

    /// Inits whose record is on disk may stay without us.
    pub(super) fn confirm_dens(&mut self) {
        let durable = self.durable;
        for kept in self.dens.all.values_mut() {
            if kept.known.is_some_and(|seq| seq <= durable) {
                kept.known = None;
                if let Some(den) = &mut kept.den {
                    den.confirm();
                }
            }
        }
    }

    /// Finds the init that an earlier keeper built, if it is still there.
    pub(super) fn resume_den(&mut self, task: u32, init: &Init) {
        let pid = init.pid as i32;
        let opened = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let is_it = process::stat(pid)
            .is_some_and(|stat| stat.start_ticks == init.start_ticks && !stat.is_dead());
        if let (Some(Ok(pidfd)), true) = (opened, is_it) {
            let Some(den) = InitProcess::adopt(pid, pidfd, init.namespaces as i32) else {
                return;
            };
            self.dens.serials += 1;
            let serial = self.dens.serials;
            if let Err(error) = self.watch(den.pidfd.as_fd(), Token::InitProcess.number(serial)) {
                tracing::error!("cannot watch the init {pid}: {error}");
            }
            let kept = KeptDen {
                den: Some(den),
                rules: None,
                known: None,
                serial,
            };
            self.dens.all.insert(task, kept);
        }
    }

    /// An init is dead, and with it all that was in its pid namespace; the next launch builds anew.
    pub(super) fn den_died(&mut self, serial: usize) {
        let mut all = self.dens.all.iter();
        let task = all.find_map(|(task, kept)| (kept.serial == serial).then_some(*task));
        let den = match task {
            Some(task) => self.dens.all.remove(&task).and_then(|kept| kept.den),
            None => {
                let mut dying = self.dens.dying.iter();
                let found = dying.position(|(other, _)| *other == serial);
                found.map(|index| self.dens.dying.swap_remove(index).1)
            }
        };
        if let Some(den) = den {
            self.unwatch(den.pidfd.as_fd());
            // Of somebody else's child nothing can be reaped.
            let id = || Id::PIDFd(den.pidfd.as_fd());
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
            if let Err(errno) = again(|| waitid(id(), flags)) {
                tracing::debug!("reaping the init {}: {errno}", den.pid);
            }
        }
        self.children_changed = true;
    }

    /// An init that nobody can enter any more gives way to the next one; true when there was one.
    pub(super) fn set_dying_den_aside(&mut self, task: u32) -> bool {
        let den = self.dens.all.get(&task).and_then(|kept| kept.den.as_ref());
        if !den.is_some_and(InitProcess::is_over) {
            return false;
        }
        if let Some(kept) = self.dens.all.remove(&task)
            && let Some(den) = kept.den
        {
            self.dens.dying.push((kept.serial, den));
        }
        true
    }

    /// Ends the init of a task, and whatever is in its pid namespace.
    pub(super) fn kill_den(&self, task: u32) {
        if let Some(den) = self.dens.all.get(&task).and_then(|kept| kept.den.as_ref()) {
            den.kill();
        }
    }

    /// The init of a task.
    pub(super) fn init_of(&self, task: u32) -> Option<i32> {
        let kept = self.dens.all.get(&task)?;
        kept.den.as_ref().map(|den| den.pid)
    }

    /// True while an init is alive.
    pub(super) fn has_dens(&self) -> bool {
        self.inits().next().is_some()
    }

    /// True when this is the init of a task.
    pub(super) fn is_init(&self, pid: i32) -> bool {
        self.inits().any(|init| init == pid)
    }

    /// The inits of all tasks.
    pub(super) fn inits(&self) -> impl Iterator<Item = i32> {
        let dens = self.dens.all.values().filter_map(|kept| kept.den.as_ref());
        let dying = self.dens.dying.iter().map(|(_, den)| den);
        dens.chain(dying).map(|den| den.pid)
    }
}
