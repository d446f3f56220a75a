//! A group of processes: the same directory in every hierarchy of cgroups that is used.
//!
//! A run has a group below the group of its task (`task_group.rs`). It is made before the run's
//! process is, and removed when the run is over and nothing is left in it. This file makes, limits,
//! measures, kills and removes groups; it does not know which process is in which group and why.

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use super::{
    cgroupfs::at,
    controllers::{Controller, Version},
    group_dir::{GroupDir, collect, guess, remove_tree, subgroups},
    group_names::plain,
    hierarchies::Hierarchies,
    kill_group::kill,
    limits::{LimitError, Limits},
    oom_events::watch,
    usage::{Depth, Usage},
};

/// A group: the same name in every hierarchy that is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    dirs: Vec<GroupDir>,
}

/// The open files through which a process gets into a group.
///
/// A process that is cloned into a group (v2), or that moves its only thread (v1), is in it at
/// once. A process that is moved as a whole waits for all forks on the machine: some milliseconds.
#[derive(Debug, Default)]
pub struct Doors {
    /// The directory of the group of v2, for CLONE_INTO_CGROUP. A process that could not be cloned
    /// into it (before Linux 5.7) writes `0` to `cgroup.procs` there.
    pub birth: Option<OwnedFd>,
    /// Where every process writes `0`: the files `tasks` of v1.
    pub others: Vec<OwnedFd>,
}

impl Group {
    /// The group that has these directories.
    pub(super) fn in_dirs(dirs: Vec<GroupDir>) -> Group {
        Group { dirs }
    }

    /// Its directories, one a hierarchy.
    pub(super) fn dirs(&self) -> &[GroupDir] {
        &self.dirs
    }

    /// The group of these directories, which a record of the journal has.
    pub fn of(hierarchies: &Hierarchies, directories: &[String]) -> Group {
        let dirs = directories.iter().map(|directory| {
            let path = PathBuf::from(directory);
            let parent = path.parent().unwrap_or(&path);
            let known = hierarchies.all.iter().find(|one| one.base == parent);
            let (version, controllers) = match known {
                Some(one) => (one.version, one.controllers.clone()),
                None => guess(&path),
            };
            GroupDir {
                version,
                controllers,
                path,
            }
        });
        Group {
            dirs: dirs.collect(),
        }
    }

    /// The group of these directories and inode numbers, which a record of the journal has. A
    /// directory with another inode number was made anew since, and is left out.
    pub fn known(hierarchies: &Hierarchies, known: &[(String, u64)]) -> Group {
        let is_same = |(directory, inode): &&(String, u64)| {
            fs::metadata(directory).is_ok_and(|meta| meta.ino() == *inode)
        };
        let directories: Vec<String> = known
            .iter()
            .filter(is_same)
            .map(|(directory, _)| directory.clone())
            .collect();
        Group::of(hierarchies, &directories)
    }

    /// The inode numbers of its directories, in their order.
    pub fn inodes(&self) -> Vec<u64> {
        let dirs = self.dirs.iter();
        dirs.map(|dir| fs::metadata(&dir.path).map_or(0, |meta| meta.ino()))
            .collect()
    }

    /// True when it has no directory: cgroups are not used.
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty()
    }

    /// Its directories, one a hierarchy.
    pub fn directories(&self) -> Vec<String> {
        let dirs = self.dirs.iter();
        dirs.map(|dir| dir.path.display().to_string()).collect()
    }

    /// The same group in the single hierarchy that tells which processes are in it: v2 if it is
    /// there, else the one that can stop forks.
    pub fn tracking(&self) -> Group {
        let find = |is_it: &dyn Fn(&&GroupDir) -> bool| self.dirs.iter().find(is_it);
        let dir = find(&|dir| dir.version == Version::V2)
            .or_else(|| find(&|dir| dir.controllers.contains(&Controller::Pids)))
            .or_else(|| self.dirs.first());
        Group {
            dirs: dir.cloned().into_iter().collect(),
        }
    }

    /// The names of the groups right below it.
    pub fn subgroups(&self) -> Vec<String> {
        let all = self.dirs.iter().flat_map(|dir| subgroups(&dir.path));
        all.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect()
    }

    /// True when it is a part of the group `other`.
    pub fn is_below(&self, other: &Group) -> bool {
        let above = |dir: &GroupDir| other.dirs.iter().any(|one| dir.path.starts_with(&one.path));
        self.dirs.iter().any(above)
    }

    /// The group called `name` below this one.
    pub fn below(&self, name: &str) -> Group {
        let dirs = self.dirs.iter().map(|dir| GroupDir {
            path: dir.path.join(name),
            ..dir.clone()
        });
        Group {
            dirs: dirs.collect(),
        }
    }

    /// Makes the group of a run of `process` below this one; returns its name. A group that is left
    /// by that name is removed, if no process is in it.
    ///
    /// # Errors
    /// What the kernel says; no directory is left then.
    pub fn make_for(&self, process: &str, run: u32) -> io::Result<(String, Group)> {
        /// Groups of earlier launches of this run that may still be there.
        const NAMESAKES: u32 = 1000;
        for number in 1..NAMESAKES {
            let name = match number {
                1 => format!("{}.{run}", plain(process)),
                more => format!("{}.{run}-{more}", plain(process)),
            };
            let group = self.below(&name);
            match group.make() {
                Ok(()) => return Ok((name, group)),
                // A process is still in it: a child whose launch was revoked, for one.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Makes its directories; directories that are left from an earlier group are removed before.
    ///
    /// # Errors
    /// What the kernel says; no directory is left then.
    pub fn make(&self) -> io::Result<()> {
        let made = self.make_each(|dir| match fs::create_dir(&dir.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                remove_tree(&dir.path);
                fs::create_dir(&dir.path)
            }
            made => made,
        });
        made.map(|_| ())
    }

    /// Sets those limits that can be enforced; returns the others.
    pub fn apply(&self, limits: &Limits) -> Vec<LimitError> {
        if limits.is_empty() {
            return Vec::new();
        }
        let dirs: Vec<(Version, &[Controller], &Path)> = self
            .dirs
            .iter()
            .map(|dir| (dir.version, dir.controllers.as_slice(), dir.path.as_path()))
            .collect();
        limits.apply(&dirs)
    }

    /// Opens the files through which a process gets in.
    ///
    /// # Errors
    /// What open says.
    pub fn doors(&self) -> io::Result<Doors> {
        let mut doors = Doors::default();
        let mut dirs: Vec<&GroupDir> = self.dirs.iter().collect();
        // Memory comes first, so that all memory of the process is counted.
        dirs.sort_by_key(|dir| !dir.controllers.contains(&Controller::Memory));
        for dir in dirs {
            if dir.version == Version::V2 {
                let opened = File::open(&dir.path).map_err(|error| at(&dir.path, error))?;
                doors.birth = Some(opened.into());
                continue;
            }
            // A thread that moves itself need not wait (Linux 5.9), and a process that enters has
            // only one.
            let path = dir.path.join("tasks");
            let opened = File::options().write(true).open(&path);
            let door = opened.map_err(|error| at(&path, error))?;
            doors.others.push(door.into());
        }
        Ok(doors)
    }

    /// The usage that changes all the time: CPU time, memory, processes.
    pub fn usage_now(&self) -> Usage {
        self.look(Depth::Now)
    }

    /// Everything that is known of its usage.
    pub fn usage(&self) -> Usage {
        self.look(Depth::All)
    }

    fn look(&self, depth: Depth) -> Usage {
        let mut usage = Usage::default();
        for dir in &self.dirs {
            usage.add(dir.version, &dir.controllers, &dir.path, depth);
        }
        usage
    }

    /// A descriptor that is readable when its memory has run out; `None` when no hierarchy here has
    /// the memory controller.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn watch_memory(&self) -> io::Result<Option<OwnedFd>> {
        let mut dirs = self.dirs.iter();
        let dir = dirs.find(|dir| dir.controllers.contains(&Controller::Memory));
        dir.map(|dir| watch(dir.version, &dir.path)).transpose()
    }

    /// The processes in it and below it, once each; zombies are in no group.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        for dir in &self.dirs {
            collect(&dir.path, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// True when not one process more may be in it: its own limit of processes, or that of the
    /// group around it, is reached.
    pub fn is_full(&self) -> bool {
        let number = |path: &Path, name: &str| -> Option<u64> {
            let text = fs::read_to_string(path.join(name)).ok()?;
            text.trim().parse().ok()
        };
        let is_at_limit = |path: &Path| {
            let (now, most) = (number(path, "pids.current"), number(path, "pids.max"));
            now.zip(most).is_some_and(|(now, most)| now >= most)
        };
        let dirs = self.dirs.iter();
        dirs.filter(|dir| dir.controllers.contains(&Controller::Pids))
            .any(|dir| is_at_limit(&dir.path) || dir.path.parent().is_some_and(is_at_limit))
    }

    /// Sends SIGKILL to all processes in it, where the kernel has a way also to those that are
    /// being forked. The group is of no use afterwards.
    pub fn kill(&self) {
        if self.is_populated() {
            kill(&self.dirs);
        }
    }

    /// True when a process is in it or below it, in any hierarchy; zombies are in no group.
    pub fn is_populated(&self) -> bool {
        self.dirs.iter().any(GroupDir::is_populated)
    }

    /// A descriptor that tells by EPOLLPRI when the last process has left; `None` where no
    /// hierarchy is of v2.
    ///
    /// # Errors
    /// What open and read say.
    pub fn watch_emptiness(&self) -> io::Result<Option<OwnedFd>> {
        let Some(dir) = self.dirs.iter().find(|dir| dir.version == Version::V2) else {
            return Ok(None);
        };
        let mut file = File::open(dir.path.join("cgroup.events"))?;
        // The kernel tells of changes after what was read last.
        io::Read::read_to_string(&mut file, &mut String::new())?;
        Ok(Some(file.into()))
    }

    /// Removes it and the groups below it; false when a process is still in it.
    pub fn remove(&self) -> bool {
        let mut is_gone = true;
        for dir in &self.dirs {
            is_gone &= remove_tree(&dir.path);
        }
        is_gone
    }

    /// Makes its directories one after the other; all or none.
    pub(super) fn make_each<T>(
        &self,
        make: impl Fn(&GroupDir) -> io::Result<T>,
    ) -> io::Result<Vec<T>> {
        let mut all = Vec::new();
        for (index, dir) in self.dirs.iter().enumerate() {
            match make(dir) {
                Ok(made) => all.push(made),
                Err(error) => {
                    for made in &self.dirs[..index] {
                        remove_tree(&made.path);
                    }
                    return Err(at(&dir.path, error));
                }
            }
        }
        Ok(all)
    }
}
