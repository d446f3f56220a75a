//! What a private task's file system is built of, as a list of steps.
//!
//! Everything that the task is shown is taken from the old root before that goes, then put into the
//! new one. This file looks at what is there to be shown, and changes nothing: `init.rs` carries
//! the steps out.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::step::{Step, c};

/// The machine's own programs and settings: what of these exists is shown, read-only.
const SYSTEM: [&str; 11] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    // Not what is beside them: sockets of builders that trust root.
    "/nix/store",
    "/gnu/store",
];
const DEVICES: [&str; 6] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
];
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];
/// Parts of /proc that belong to no process, and that root could write.
const PROC_READ_ONLY: [&str; 5] = [
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/irq",
    "/proc/bus",
    "/proc/fs",
];
/// Parts of /proc that tell other processes' memory or secrets.
const PROC_HIDDEN: [&str; 4] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/timer_list",
];
/// Directories in memory, with how large they may get: what is in them outlives the run that wrote
/// it.
const MEMORY: [(&str, &str); 3] = [
    ("/tmp", "mode=1777,size=512m"),
    ("/var/tmp", "mode=1777,size=512m"),
    ("/run", "mode=755,size=64m"),
];
/// Parts of /sys that no task needs, where they are mounted.
const SYS_COVERED: [&str; 3] = ["/sys/kernel/debug", "/sys/kernel/tracing", "/sys/firmware"];
const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
/// A device can be written on a file system that cannot: only its name, owner and mode are the
/// machine's.
const DEVICE: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
const WRITABLE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
/// Where the new root is made: a directory that is always there.
const STAGING: &str = "/proc";

/// What a task is shown of its machine beside the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory or a file.
    Bound {
        /// The path on the machine.
        from: PathBuf,
        /// The path where the task finds it.
        to: PathBuf,
        /// True when the task may write it.
        writable: bool,
    },
    /// Files in memory.
    Tmpfs {
        /// The path where the task finds them.
        to: PathBuf,
        /// The most bytes that they may take.
        size: u64,
    },
}

/// Why a task cannot be shown something.
#[derive(Debug, Error)]
#[error("cannot show {path} to a private task: {source}")]
pub struct BlueprintError {
    path: PathBuf,
    source: io::Error,
}

/// Everything that is needed to build a private task's namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blueprint {
    pub(super) steps: Vec<Step>,
    pub(super) slots: usize,
    /// The flags that the init is cloned with.
    pub(super) namespaces: i32,
    /// Paths that the task may write, as the task sees them.
    writable: Vec<PathBuf>,
}

impl Blueprint {
    /// A blueprint for a task whose sandbox is `sandbox`, with these namespaces (`CLONE_NEW*`,
    /// without the user namespace, which is added when this process is not root's).
    ///
    /// # Errors
    /// When something that is to be shown is not there.
    pub fn new(
        sandbox: &Path,
        places: &[Place],
        namespaces: i32,
    ) -> Result<Blueprint, BlueprintError> {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let mut plan = Planner {
            steps: Vec::new(),
            slots: 0,
        };
        let mut namespaces = namespaces;
        if !uid.is_root() {
            namespaces |= libc::CLONE_NEWUSER;
            for (path, text) in [
                ("/proc/self/setgroups", "deny".to_owned()),
                ("/proc/self/uid_map", format!("{uid} {uid} 1")),
                ("/proc/self/gid_map", format!("{gid} {gid} 1")),
            ] {
                plan.steps.push(Step::Write {
                    path: c(path),
                    text: c(text),
                });
            }
        }
        let mut writable: Vec<PathBuf> = ["/tmp", "/var/tmp", "/run", "/dev", "/proc"]
            .map(PathBuf::from)
            .to_vec();
        writable.push(sandbox.to_path_buf());
        for place in places {
            match place {
                Place::Bound {
                    to, writable: true, ..
                }
                | Place::Tmpfs { to, .. } => {
                    writable.push(to.clone());
                }
                Place::Bound { .. } => {}
            }
        }
        if namespaces & libc::CLONE_NEWNS != 0 {
            check(sandbox, places)?;
            let has_pids = namespaces & libc::CLONE_NEWPID != 0;
            plan.file_system(sandbox, places, has_pids)?;
        }
        Ok(Blueprint {
            steps: plan.steps,
            slots: plan.slots,
            namespaces,
            writable,
        })
    }

    /// The namespaces that a process of the task enters.
    pub fn namespaces(&self) -> i32 {
        self.namespaces
    }

    /// The paths that the task may write, as the task sees them.
    pub fn writable(&self) -> &[PathBuf] {
        &self.writable
    }
}

/// A volume must not lie where the task itself could put something else in its place: neither what
/// is shown, nor where.
fn check(sandbox: &Path, places: &[Place]) -> Result<(), BlueprintError> {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let own = real(sandbox);
    for (index, place) in places.iter().enumerate() {
        let others = places
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        let mut above: Vec<(PathBuf, PathBuf)> = others
            .filter_map(|(_, other)| match other {
                Place::Bound {
                    from,
                    to,
                    writable: true,
                } => Some((real(from), to.clone())),
                Place::Tmpfs { to, .. } => Some((PathBuf::new(), to.clone())),
                Place::Bound { .. } => None,
            })
            .collect();
        above.push((own.clone(), sandbox.to_path_buf()));
        let (from, to) = match place {
            Place::Bound { from, to, .. } => (Some(real(from)), to),
            Place::Tmpfs { to, .. } => (None, to),
        };
        let is_below = |path: &Path, top: &Path| top != Path::new("") && path.starts_with(top);
        let refuse = |path: &Path| BlueprintError {
            path: path.to_path_buf(),
            source: io::Error::other("it lies within what the task itself may write"),
        };
        for (top_from, top_to) in &above {
            if is_below(to, top_to) {
                return Err(refuse(to));
            }
            // The same directory may be shown twice.
            if let Some(from) = from.as_deref().filter(|from| *from != top_from.as_path())
                && is_below(from, top_from)
            {
                return Err(refuse(from));
            }
        }
    }
    Ok(())
}

struct Planner {
    steps: Vec<Step>,
    slots: usize,
}

/// A tree of mounts that was taken from the old root, and where it goes in the new one.
struct Tree {
    path: PathBuf,
    slot: usize,
    is_dir: bool,
}

/// Everything that was taken from the old root.
struct Taken {
    /// Directories of the machine's own programs and settings.
    system: Vec<Tree>,
    /// Links among them: target and path.
    links: Vec<(PathBuf, PathBuf)>,
    /// The slot of /sys.
    sys: usize,
    /// Devices, each with its slot.
    devices: Vec<(&'static str, usize)>,
    /// The slot of /proc, when the task shares the machine's pids.
    proc: Option<usize>,
    /// What is this task's alone: its sandbox, its volumes, and what resolves names.
    own: Vec<Tree>,
}

impl Planner {
    fn file_system(
        &mut self,
        sandbox: &Path,
        places: &[Place],
        has_pids: bool,
    ) -> Result<(), BlueprintError> {
        self.steps.push(Step::Detach);
        let taken = self.taken(sandbox, places, has_pids)?;
        self.pivot(taken.proc);
        self.shown(&taken);
        self.memory();
        self.devices(&taken.devices);
        self.hidden();
        self.own(places, &taken.own);
        self.steps.push(Step::Seal);
        Ok(())
    }

    /// Takes everything that the task will see, before the old root goes.
    fn taken(
        &mut self,
        sandbox: &Path,
        places: &[Place],
        has_pids: bool,
    ) -> Result<Taken, BlueprintError> {
        let mut system = Vec::new();
        let mut links = Vec::new();
        for path in SYSTEM.map(PathBuf::from) {
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_symlink() => {
                    let target = fs::read_link(&path).map_err(fail(&path))?;
                    links.push((target, path));
                }
                Ok(meta) if meta.is_dir() => system.push(self.tree(path, READ_ONLY, true)),
                _ => {}
            }
        }
        let sys = self.take(Path::new("/sys"), READ_ONLY | libc::MOUNT_ATTR_NOEXEC);
        let devices = DEVICES
            .into_iter()
            .filter(|path| Path::new(path).exists())
            .map(|path| (path, self.take(Path::new(path), DEVICE)))
            .collect();
        let own = self.taken_of_own(sandbox, places)?;
        let proc = match has_pids {
            true => None,
            false => Some(self.take(Path::new("/proc"), WRITABLE | libc::MOUNT_ATTR_NOEXEC)),
        };
        Ok(Taken {
            system,
            links,
            sys,
            devices,
            proc,
            own,
        })
    }

    fn taken_of_own(
        &mut self,
        sandbox: &Path,
        places: &[Place],
    ) -> Result<Vec<Tree>, BlueprintError> {
        let mut own = Vec::new();
        // Names are resolved by a file that often lies where nothing else is shown.
        if let Ok(resolver) = fs::canonicalize("/etc/resolv.conf")
            && resolver.is_file()
            && !SYSTEM.iter().any(|shown| resolver.starts_with(shown))
        {
            own.push(self.tree(resolver, READ_ONLY, false));
        }
        own.push(self.tree(sandbox.to_path_buf(), WRITABLE, true));
        for place in places {
            if let Place::Bound { from, to, writable } = place {
                let from = fs::canonicalize(from).map_err(fail(from))?;
                let is_dir = fs::metadata(&from).map_err(fail(&from))?.is_dir();
                let attributes = if *writable { WRITABLE } else { READ_ONLY };
                own.push(Tree {
                    path: to.clone(),
                    slot: self.take(&from, attributes),
                    is_dir,
                });
            }
        }
        Ok(own)
    }

    /// Makes a new root, enters it and leaves the old one.
    fn pivot(&mut self, proc: Option<usize>) {
        self.steps.push(Step::NewRoot { path: c(STAGING) });
        self.steps.push(Step::Pivot);
        self.directory(Path::new("/proc"));
        match proc {
            // Before the old root goes: the kernel lets a user that is not root mount /proc only
            // where it sees one that is whole.
            None => self.mount("proc", "/proc", libc::MS_NOEXEC, ""),
            Some(slot) => self.put(slot, Path::new("/proc")),
        }
        self.steps.push(Step::Forget);
    }

    /// Puts the machine's programs and settings where they were, read-only.
    fn shown(&mut self, taken: &Taken) {
        for (target, path) in &taken.links {
            self.steps.push(Step::Link {
                target: c(target.as_os_str().as_bytes()),
                path: c(path.as_os_str().as_bytes()),
            });
        }
        for tree in &taken.system {
            self.put_tree(tree);
        }
        self.directory(Path::new("/sys"));
        self.put(taken.sys, Path::new("/sys"));
        for path in SYS_COVERED {
            self.steps.push(Step::Cover { path: c(path) });
        }
        for path in ["/home", "/root", "/var", "/mnt", "/srv"] {
            self.directory(Path::new(path));
        }
    }

    /// Mounts the directories in memory that every task has.
    fn memory(&mut self) {
        for (path, options) in MEMORY {
            self.directory(Path::new(path));
            self.mount("tmpfs", path, 0, options);
        }
    }

    /// Builds a small /dev.
    fn devices(&mut self, devices: &[(&str, usize)]) {
        self.directory(Path::new("/dev"));
        self.mount("tmpfs", "/dev", libc::MS_NOEXEC, "mode=755,size=64k");
        for (path, slot) in devices {
            self.steps.push(Step::File { path: c(*path) });
            self.put(*slot, Path::new(path));
        }
        for path in ["/dev/pts", "/dev/shm"] {
            self.directory(Path::new(path));
        }
        self.mount(
            "devpts",
            "/dev/pts",
            libc::MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620",
        );
        self.mount("tmpfs", "/dev/shm", libc::MS_NOEXEC, "mode=1777,size=64m");
        for (target, path) in DEVICE_LINKS {
            self.steps.push(Step::Link {
                target: c(target),
                path: c(path),
            });
        }
    }

    /// Hides what /proc tells of the machine, or makes it read-only.
    fn hidden(&mut self) {
        for path in PROC_READ_ONLY {
            self.steps.push(Step::Freeze { path: c(path) });
        }
        for path in PROC_HIDDEN {
            self.steps.push(Step::Hide { path: c(path) });
        }
    }

    /// Puts the task's sandbox and volumes, over whatever is there already.
    fn own(&mut self, places: &[Place], own: &[Tree]) {
        for place in places {
            if let Place::Tmpfs { to, size } = place {
                self.parents(to);
                self.directory(to);
                let options = format!("mode=1777,size={size}");
                self.mount("tmpfs", &to.display().to_string(), 0, &options);
            }
        }
        for tree in own {
            self.put_tree(tree);
        }
    }

    fn tree(&mut self, path: PathBuf, attributes: u64, is_dir: bool) -> Tree {
        let slot = self.take(&path, attributes);
        Tree { path, slot, is_dir }
    }

    fn put_tree(&mut self, tree: &Tree) {
        self.parents(&tree.path);
        match tree.is_dir {
            true => self.directory(&tree.path),
            false => self.steps.push(Step::File {
                path: c(tree.path.as_os_str().as_bytes()),
            }),
        }
        self.put(tree.slot, &tree.path);
    }

    fn take(&mut self, path: &Path, attributes: u64) -> usize {
        let slot = self.slots;
        self.slots += 1;
        self.steps.push(Step::Take {
            slot,
            path: c(path.as_os_str().as_bytes()),
            deep: true,
        });
        self.steps.push(Step::Restrict {
            slot,
            attributes,
            deep: true,
        });
        slot
    }

    fn put(&mut self, slot: usize, path: &Path) {
        let path = c(path.as_os_str().as_bytes());
        self.steps.push(Step::Put { slot, path });
    }

    fn directory(&mut self, path: &Path) {
        let path = c(path.as_os_str().as_bytes());
        self.steps.push(Step::Directory { path });
    }

    /// The directories above `path`.
    fn parents(&mut self, path: &Path) {
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        for path in above.into_iter().skip(1) {
            self.directory(path);
        }
    }

    fn mount(&mut self, kind: &str, path: &str, flags: u64, options: &str) {
        self.steps.push(Step::Mount {
            kind: c(kind),
            path: c(path),
            flags: flags | libc::MS_NOSUID | libc::MS_NODEV,
            options: c(options),
        });
    }
}

fn fail(path: &Path) -> impl Fn(io::Error) -> BlueprintError {
    let path = path.to_path_buf();
    move |source| BlueprintError {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_taken_before_the_old_root_goes_and_put_behind_it() {
        let sandbox = tempfile::tempdir().unwrap();
        let places = [Place::Tmpfs {
            to: "/scratch".into(),
            size: 4096,
        }];
        let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
        let plan = Blueprint::new(sandbox.path(), &places, namespaces).unwrap();
        let at = |wanted: fn(&Step) -> bool| {
            let found = plan
                .steps
                .iter()
                .enumerate()
                .filter(|(_, step)| wanted(step));
            found.map(|(index, _)| index).collect::<Vec<_>>()
        };
        let root = at(|step| matches!(step, Step::NewRoot { .. }));
        assert_eq!(root.len(), 1);
        assert!(
            at(|step| matches!(step, Step::Take { .. }))
                .iter()
                .all(|index| *index < root[0])
        );
        assert!(
            at(|step| matches!(step, Step::Put { .. }))
                .iter()
                .all(|index| *index > root[0])
        );
        assert_eq!(
            at(|step| matches!(step, Step::Seal)),
            [plan.steps.len() - 1]
        );
        assert!(plan.writable().contains(&sandbox.path().to_path_buf()));
    }

    #[test]
    fn volumes_within_what_the_task_may_write_are_refused() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name);
        for name in ["sandbox", "out/data"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        let bound = |from: &str, to: &str, writable| Place::Bound {
            from: path(from),
            to: to.into(),
            writable,
        };
        let build = |places: &[Place]| Blueprint::new(&path("sandbox"), places, libc::CLONE_NEWNS);
        let writable = bound("out", "/out", true);
        assert!(build(&[writable.clone(), bound("out/data", "/data", false)]).is_err());
        assert!(build(&[writable.clone(), bound("sandbox", "/out/more", false)]).is_err());
        let inside = path("sandbox/vol").display().to_string();
        assert!(build(&[bound("out", &inside, false)]).is_err());
        assert!(build(&[writable, bound("out", "/again", false)]).is_ok());
    }

    #[test]
    fn what_is_not_there_is_named() {
        let places = [Place::Bound {
            from: "/no/such/place".into(),
            to: "/data".into(),
            writable: false,
        }];
        let error = Blueprint::new(Path::new("/tmp"), &places, libc::CLONE_NEWNS).unwrap_err();
        assert!(error.to_string().contains("/no/such/place"), "{error}");
    }
}
