//! The namespaces of private tasks: the init that holds those of each task, the rules for its
//! paths, and the orphans inside.
//!
//! An init is a child of the keeper and no process of the task: it is not asked to stop, is not
//! waited for, and dies last. A task that only has fewer rights has an entry without an init.

use std::{
    collections::{BTreeMap, HashMap},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use seccompiler::sock_filter;
use thiserror::Error;

use super::spawn::{Confinement, Entrance};
use crate::{
    protocols::dewar::link as wire,
    sandbox::private::{
        Blueprint, BlueprintError, BuildError, InitProcess, KEPT_CAPABILITIES, Place, RuleError,
        filters, landlock_abi, ruleset,
    },
    task::Protection,
};

/// Why a task cannot be private.
#[derive(Debug, Error)]
pub enum PrivateError {
    /// A path cannot be shown to the task.
    #[error(transparent)]
    Blueprint(#[from] BlueprintError),
    /// The namespaces cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Its paths cannot be restricted.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// Its system calls cannot be restricted.
    #[error(transparent)]
    Filters(#[from] seccompiler::BackendError),
    /// The init cannot be watched.
    #[error(transparent)]
    Watch(#[from] std::io::Error),
}

/// The namespaces and rules of one task.
#[derive(Debug)]
struct OfTask {
    /// `None` when it has no namespaces of its own, only fewer rights.
    init: Option<InitProcess>,
    rules: Option<OwnedFd>,
    /// The record that makes the init known; it is confirmed when that is on disk.
    known: Option<u64>,
    /// What the events of the init are numbered with.
    serial: usize,
}

/// The namespaces of all tasks.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    all: BTreeMap<u32, OfTask>,
    /// Inits that are dying while their tasks have others already.
    dying: Vec<(usize, InitProcess)>,
    serials: usize,
    /// The filters of system calls: the same for every task, made when the first one needs them.
    filters: Vec<Vec<sock_filter>>,
    /// Orphans in pid namespaces whose end is waited for, by pid.
    orphans: HashMap<i32, OwnedFd>,
}

impl Namespaces {
    /// Makes the filters of system calls, if `private` wants them and they are not there.
    ///
    /// # Errors
    /// A rule does not compile.
    pub fn need_filters(&mut self, private: &wire::Private) -> Result<(), PrivateError> {
        if has(private, Protection::Seccomp) && self.filters.is_empty() {
            self.filters = filters()?;
        }
        Ok(())
    }

    /// True when a task has all that `private` wants.
    pub fn are_complete(&self, task: u32, private: &wire::Private) -> bool {
        let of_task = self.all.get(&task);
        of_task.is_some_and(|of_task| of_task.rules.is_some() || !needs_rules(private))
    }

    /// True when a task has been built or found.
    pub fn has(&self, task: u32) -> bool {
        self.all.contains_key(&task)
    }

    /// A number for the events of the next init.
    pub fn next_serial(&mut self) -> usize {
        self.serials += 1;
        self.serials
    }

    /// Keeps the namespaces of a task. `known` is the record that tells of the init, unless an
    /// earlier keeper has recorded it.
    pub fn insert(
        &mut self,
        task: u32,
        init: Option<InitProcess>,
        serial: usize,
        known: Option<u64>,
    ) {
        let of_task = OfTask {
            init,
            rules: None,
            known,
            serial,
        };
        self.all.insert(task, of_task);
    }

    /// Makes the rules for the paths of a task, if `private` wants them.
    ///
    /// # Errors
    /// What landlock says.
    pub fn make_rules(
        &mut self,
        task: u32,
        private: &wire::Private,
        blueprint: &Blueprint,
    ) -> Result<(), PrivateError> {
        if needs_rules(private)
            && let Some(of_task) = self.all.get_mut(&task)
        {
            let root = match &of_task.init {
                Some(init) if init.namespaces() & libc::CLONE_NEWNS != 0 => {
                    PathBuf::from(format!("/proc/{}/root", init.pid))
                }
                _ => PathBuf::from("/"),
            };
            of_task.rules = ruleset(&root, blueprint.writable())?;
        }
        Ok(())
    }

    /// How a child of this task enters; `None`: it is not private.
    pub fn entrance(&self, task: u32, command: &wire::Launch) -> Option<Entrance<'_>> {
        let private = command.private.as_ref()?;
        let of_task = self.all.get(&task);
        let is_root = nix::unistd::geteuid().is_root();
        let kept_capabilities = if is_root { KEPT_CAPABILITIES } else { 0 };
        Some(Entrance {
            init: of_task.and_then(|of_task| of_task.init.as_ref()),
            confinement: Confinement {
                capabilities: has(private, Protection::Capabilities).then_some(kept_capabilities),
                no_new_privs: has(private, Protection::NoNewPrivs),
                ruleset: of_task
                    .and_then(|of_task| of_task.rules.as_ref())
                    .map(|rules| rules.as_fd()),
                filters: match has(private, Protection::Seccomp) {
                    true => &self.filters,
                    false => &[],
                },
            },
        })
    }

    /// Tells the inits whose record is on disk that they may stay without the keeper.
    pub fn confirm(&mut self, durable: u64) {
        for of_task in self.all.values_mut() {
            if of_task.known.is_some_and(|seq| seq <= durable) {
                of_task.known = None;
                if let Some(init) = &mut of_task.init {
                    init.confirm();
                }
            }
        }
    }

    /// The init with this serial is dead.
    pub fn take_dead(&mut self, serial: usize) -> Option<InitProcess> {
        let mut all = self.all.iter();
        let task = all.find_map(|(task, of_task)| (of_task.serial == serial).then_some(*task));
        match task {
            Some(task) => self.all.remove(&task)?.init,
            None => {
                let mut dying = self.dying.iter();
                let index = dying.position(|(other, _)| *other == serial)?;
                Some(self.dying.swap_remove(index).1)
            }
        }
    }

    /// An init that cannot be entered any more gives way to the next one; true when there was one.
    pub fn set_dying_aside(&mut self, task: u32) -> bool {
        if !self.init(task).is_some_and(InitProcess::is_over) {
            return false;
        }
        if let Some(of_task) = self.all.remove(&task)
            && let Some(init) = of_task.init
        {
            self.dying.push((of_task.serial, init));
        }
        true
    }

    /// Ends the init of a task, and all that is in its pid namespace.
    pub fn kill(&self, task: u32) {
        if let Some(init) = self.init(task) {
            init.kill();
        }
    }

    fn init(&self, task: u32) -> Option<&InitProcess> {
        self.all.get(&task)?.init.as_ref()
    }

    /// The pid of a task's init.
    pub fn init_of(&self, task: u32) -> Option<i32> {
        self.init(task).map(|init| init.pid)
    }

    /// True while an init is alive.
    pub fn has_inits(&self) -> bool {
        self.inits().next().is_some()
    }

    /// True when this is the init of a task.
    pub fn is_init(&self, pid: i32) -> bool {
        self.inits().any(|init| init == pid)
    }

    /// The inits of all tasks.
    pub fn inits(&self) -> impl Iterator<Item = i32> {
        let inits = self
            .all
            .values()
            .filter_map(|of_task| of_task.init.as_ref());
        let dying = self.dying.iter().map(|(_, init)| init);
        inits.chain(dying).map(|init| init.pid)
    }

    /// True when the end of this orphan is waited for.
    pub fn has_orphan(&self, pid: i32) -> bool {
        self.orphans.contains_key(&pid)
    }

    /// The end of an orphan is waited for with `pidfd`.
    pub fn add_orphan(&mut self, pid: i32, pidfd: OwnedFd) {
        self.orphans.insert(pid, pidfd);
    }

    /// An orphan has ended.
    pub fn take_orphan(&mut self, pid: i32) -> Option<OwnedFd> {
        self.orphans.remove(&pid)
    }
}

fn has(private: &wire::Private, protection: Protection) -> bool {
    private.without & 1 << protection as u32 == 0
}

fn needs_rules(private: &wire::Private) -> bool {
    has(private, Protection::Landlock) && landlock_abi() > 0
}

/// The namespaces that are wanted, but for the user namespace.
fn namespaces(private: &wire::Private) -> i32 {
    let flags = [
        (Protection::Mounts, libc::CLONE_NEWNS),
        (Protection::Pids, libc::CLONE_NEWPID),
        (Protection::Ipc, libc::CLONE_NEWIPC),
        (Protection::Uts, libc::CLONE_NEWUTS),
    ];
    let wanted = flags.into_iter().filter(|(one, _)| has(private, *one));
    wanted.fold(0, |all, (_, flag)| all | flag)
}

/// What a private task is shown.
pub(super) fn blueprint(
    sandbox: &Path,
    private: &wire::Private,
) -> Result<Blueprint, BlueprintError> {
    let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    let places: Vec<Place> = private
        .volumes
        .iter()
        .map(|volume| match volume.host_path.is_empty() {
            true => Place::Tmpfs {
                to: path(&volume.container_path),
                size: volume.size,
            },
            false => Place::Bound {
                from: path(&volume.host_path),
                to: path(&volume.container_path),
                writable: volume.writable,
            },
        })
        .collect();
    Blueprint::new(sandbox, &places, namespaces(private))
}

/// Builds an init, unless no namespaces are wanted.
///
/// # Errors
/// The step that failed, and on what.
pub(super) fn build(blueprint: &Blueprint) -> Result<Option<InitProcess>, BuildError> {
    match blueprint.namespaces() & !libc::CLONE_NEWUSER {
        0 => Ok(None),
        _ => InitProcess::build(blueprint).map(Some),
    }
}

/// Builds the namespaces of a private task, and takes them away again.
///
/// # Errors
/// The step that failed, and on what.
pub fn try_private(sandbox: &Path, private: &wire::Private) -> Result<(), PrivateError> {
    if let Some(init) = build(&blueprint(sandbox, private)?)? {
        init.destroy();
    }
    Ok(())
}
