//! Groups of our making: one a task, below it one a run.
//!
//! A task's group is locked as long as somebody looks after it, so that whoever makes another one in
//! the same place can remove what the dead left there. A run's group is made before its process is,
//! and removed when the run is over and nothing is left in it.

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use super::{
    cgroupfs::{OWN_LEAF, PREFIX, at, listed, processes, switch, write},
    controllers::{Controller, Version},
    hierarchies::Site,
    limits::{LimitError, Limits},
    usage::{Depth, Usage},
};

/// Of a name in a file system.
const LONGEST: usize = 200;

/// Why there is no group.
#[derive(Debug, Error)]
pub enum GroupError {
    /// A limit cannot be had.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The system said no.
    #[error("cannot make a cgroup: {0}")]
    Io(#[from] io::Error),
}

/// One directory of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    version: Version,
    controllers: Vec<Controller>,
    path: PathBuf,
}

/// A group: the same name in every hierarchy that is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    places: Vec<Place>,
}

/// A task's group, as long as we look after it.
#[derive(Debug)]
pub struct TaskGroup {
    group: Group,
    _locks: Vec<Flock<File>>,
}

/// How a process gets into a group. One that is born there (v2) or moves its only thread (v1) does so at once; a process
/// that is moved as a whole waits until nobody on the machine forks: some milliseconds.
#[derive(Debug, Default)]
pub struct Doors {
    /// The directory of the group of v2, for CLONE_INTO_CGROUP.
    pub birth: Option<OwnedFd>,
    /// Where `0` is written by who was not born there, because the kernel has no such thing.
    pub instead: Option<OwnedFd>,
    /// Where `0` is written in any case: `tasks` of v1.
    pub others: Vec<OwnedFd>,
}

/// The name of a task's group.
pub fn group_name(task_id: &str) -> String {
    let name = format!("{PREFIX}{}", plain(task_id));
    // That one is our own processes'.
    match name == OWN_LEAF {
        true => format!("{name}-task"),
        false => name,
    }
}

/// What the kernel takes as a name: no control characters, and not too long.
fn plain(text: &str) -> String {
    let is_plain = text.len() <= LONGEST && !text.chars().any(|c| c.is_control() || c == '/');
    if is_plain {
        return text.to_owned();
    }
    let clean = text.chars().map(|c| match c {
        '/' => '_',
        c if c.is_control() => '_',
        c => c,
    });
    let mut name = String::new();
    for c in clean {
        if name.len() + c.len_utf8() > LONGEST {
            break;
        }
        name.push(c);
    }
    // Two that differ only in what was lost must not meet.
    format!("{name}-{:08x}", crc32c::crc32c(text.as_bytes()))
}

impl TaskGroup {
    /// Makes a group called `name`, or like it if that one is taken; with `limits` for all that is in
    /// it. What dead tasks left in the same place is removed.
    ///
    /// # Errors
    /// See [`GroupError`]; nothing is left then.
    pub fn make(
        site: &Site,
        name: &str,
        limits: &Limits,
        best_effort: bool,
    ) -> Result<(TaskGroup, Vec<LimitError>), GroupError> {
        /// Tasks of the same name in one place.
        const NAMESAKES: u32 = 10_000;
        for hierarchy in &site.hierarchies {
            hierarchy.prepare()?;
            sweep(&hierarchy.base);
        }
        for number in 1..NAMESAKES {
            let name = match number {
                1 => name.to_owned(),
                more => format!("{name}.{more}"),
            };
            let places = site.hierarchies.iter().map(|hierarchy| Place {
                version: hierarchy.version,
                controllers: hierarchy.controllers.clone(),
                path: hierarchy.base.join(&name),
            });
            let group = Group {
                places: places.collect(),
            };
            match group.make_each(Place::make_locked) {
                Ok(locks) => {
                    let made = TaskGroup {
                        group,
                        _locks: locks,
                    };
                    return made.limited(limits, best_effort);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists).into())
    }

    fn limited(
        self,
        limits: &Limits,
        best_effort: bool,
    ) -> Result<(TaskGroup, Vec<LimitError>), GroupError> {
        let problems = self.group.apply(limits);
        let enabled = || self.group.places.iter().try_for_each(Place::enable_below);
        let result = match problems.first() {
            Some(error) if !best_effort => Err(GroupError::from(error.clone())),
            _ => enabled(),
        };
        match result {
            Ok(()) => Ok((self, problems)),
            Err(error) => {
                self.group.remove();
                Err(error)
            }
        }
    }

    /// The group that was made for this task before. `None` when it is not there any more, or only in part: nobody was in it,
    /// and somebody took it for a dead one's in the moment between two keepers.
    pub fn resume(site: &Site, known: &[(String, u64)]) -> Option<TaskGroup> {
        let group = Group::known(site, known);
        let locked = group.places.iter().map(|place| {
            let file = File::open(&place.path).ok()?;
            let lock = Flock::lock(file, FlockArg::LockSharedNonblock).ok()?;
            place.path.exists().then_some(lock)
        });
        let locks: Option<Vec<Flock<File>>> = locked.collect();
        match locks {
            Some(locks) if group.places.len() == known.len() => Some(TaskGroup {
                group,
                _locks: locks,
            }),
            _ => {
                group.remove();
                None
            }
        }
    }

    /// The group itself.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Removes the group and what is below it, and gives back what was changed above; false when something
    /// is still in it.
    pub fn remove(&self, site: &Site) -> bool {
        let removed = self.group.remove();
        for hierarchy in &site.hierarchies {
            hierarchy.restore();
        }
        removed
    }
}

impl Group {
    /// The group of these directories, which a record has.
    pub fn of(site: &Site, directories: &[String]) -> Group {
        let places = directories.iter().map(|directory| {
            let path = PathBuf::from(directory);
            let parent = path.parent().unwrap_or(&path);
            let known = site.hierarchies.iter().find(|one| one.base == parent);
            let (version, controllers) = match known {
                Some(one) => (one.version, one.controllers.clone()),
                None => guess(&path),
            };
            Place {
                version,
                controllers,
                path,
            }
        });
        Group {
            places: places.collect(),
        }
    }

    /// The group of these directories and inode numbers, which a record has; what is somebody else's by now is left out.
    pub fn known(site: &Site, known: &[(String, u64)]) -> Group {
        let is_same = |(directory, inode): &&(String, u64)| {
            fs::metadata(directory).is_ok_and(|meta| meta.ino() == *inode)
        };
        let directories: Vec<String> = known
            .iter()
            .filter(is_same)
            .map(|(directory, _)| directory.clone())
            .collect();
        Group::of(site, &directories)
    }

    /// The inode numbers of its directories, in their order.
    pub fn inodes(&self) -> Vec<u64> {
        let places = self.places.iter();
        places
            .map(|place| fs::metadata(&place.path).map_or(0, |meta| meta.ino()))
            .collect()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Its directories, one a hierarchy.
    pub fn directories(&self) -> Vec<String> {
        let places = self.places.iter();
        places
            .map(|place| place.path.display().to_string())
            .collect()
    }

    /// The group called `name` below this one.
    pub fn below(&self, name: &str) -> Group {
        let places = self.places.iter().map(|place| Place {
            path: place.path.join(name),
            ..place.clone()
        });
        Group {
            places: places.collect(),
        }
    }

    /// Makes the group of a run of `process` below this one; returns its name. What is left of an earlier
    /// one by that name is removed.
    ///
    /// # Errors
    /// What the system says; nothing is left then.
    pub fn make_for(&self, process: &str, run: u32) -> io::Result<(String, Group)> {
        /// What an earlier one may have left behind.
        const NAMESAKES: u32 = 1000;
        for number in 1..NAMESAKES {
            let name = match number {
                1 => format!("{}.{run}", plain(process)),
                more => format!("{}.{run}-{more}", plain(process)),
            };
            let group = self.below(&name);
            match group.make() {
                Ok(()) => return Ok((name, group)),
                // Somebody is still in it: a child that was called back, for one.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Makes its directories; what is left there of an earlier one is removed.
    ///
    /// # Errors
    /// What the system says; nothing is left then.
    pub fn make(&self) -> io::Result<()> {
        let made = self.make_each(|place| match fs::create_dir(&place.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                remove_tree(&place.path);
                fs::create_dir(&place.path)
            }
            made => made,
        });
        made.map(|_| ())
    }

    /// Sets those limits that can be had; returns the others.
    pub fn apply(&self, limits: &Limits) -> Vec<LimitError> {
        if limits.is_empty() {
            return Vec::new();
        }
        let places: Vec<(Version, &[Controller], &Path)> = self
            .places
            .iter()
            .map(|place| {
                (
                    place.version,
                    place.controllers.as_slice(),
                    place.path.as_path(),
                )
            })
            .collect();
        limits.apply(&places)
    }

    /// How a process gets in.
    ///
    /// # Errors
    /// What open says.
    pub fn doors(&self) -> io::Result<Doors> {
        let mut doors = Doors::default();
        let mut places: Vec<&Place> = self.places.iter().collect();
        // Memory comes first, so that all is counted.
        places.sort_by_key(|place| !place.controllers.contains(&Controller::Memory));
        for place in places {
            if place.version == Version::V2 {
                let opened = File::open(&place.path).map_err(|error| at(&place.path, error))?;
                doors.birth = Some(opened.into());
            }
            // A thread that moves itself is not waited for (Linux 5.9), and who enters has one thread only.
            let path = place.path.join(match place.version {
                Version::V1 => "tasks",
                Version::V2 => "cgroup.procs",
            });
            let opened = File::options().write(true).open(&path);
            let door = opened
                .map(OwnedFd::from)
                .map_err(|error| at(&path, error))?;
            match place.version {
                Version::V1 => doors.others.push(door),
                Version::V2 => doors.instead = Some(door),
            }
        }
        Ok(doors)
    }

    /// What changes all the time: time, memory, processes.
    pub fn usage_now(&self) -> Usage {
        self.look(Depth::Now)
    }

    /// Everything that is known of what it used.
    pub fn usage(&self) -> Usage {
        self.look(Depth::All)
    }

    fn look(&self, depth: Depth) -> Usage {
        let mut usage = Usage::default();
        for place in &self.places {
            usage.add(place.version, &place.controllers, &place.path, depth);
        }
        usage
    }

    /// A descriptor that is readable when its memory has run out; `None` when nobody watches memory here.
    ///
    /// # Errors
    /// What the system says.
    pub fn watch_memory(&self) -> io::Result<Option<OwnedFd>> {
        let mut places = self.places.iter();
        let place = places.find(|place| place.controllers.contains(&Controller::Memory));
        place
            .map(|place| super::memory_events::watch(place.version, &place.path))
            .transpose()
    }

    /// The processes in it and below, once each; zombies are in no group.
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        for place in &self.places {
            collect(&place.path, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// SIGKILL to all that is in it, at once and with all that is being forked; false where the kernel has
    /// no such thing (v1 alone, or before Linux 5.14).
    pub fn kill(&self) -> bool {
        let mut places = self.places.iter();
        let Some(place) = places.find(|place| place.version == Version::V2) else {
            return false;
        };
        match write(&place.path.join("cgroup.kill"), "1") {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!("cgroup.kill: {error}");
                false
            }
        }
    }

    /// Removes it and what is below; false when something is still in it.
    pub fn remove(&self) -> bool {
        let mut is_gone = true;
        for place in &self.places {
            is_gone &= remove_tree(&place.path);
        }
        is_gone
    }

    /// Makes its directories one after the other; all or none.
    fn make_each<T>(&self, make: impl Fn(&Place) -> io::Result<T>) -> io::Result<Vec<T>> {
        let mut all = Vec::new();
        for (index, place) in self.places.iter().enumerate() {
            match make(place) {
                Ok(made) => all.push(made),
                Err(error) => {
                    for made in &self.places[..index] {
                        remove_tree(&made.path);
                    }
                    return Err(at(&place.path, error));
                }
            }
        }
        Ok(all)
    }
}

impl Place {
    fn make_locked(&self) -> io::Result<Flock<File>> {
        loop {
            fs::create_dir(&self.path)?;
            let opened = File::open(&self.path).and_then(|file| {
                Flock::lock(file, FlockArg::LockSharedNonblock).map_err(|(_, errno)| errno.into())
            });
            // Somebody may have taken it for a dead task's, before it was locked.
            match opened {
                Ok(lock) if self.path.exists() => return Ok(lock),
                Ok(_) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    remove_tree(&self.path);
                    return Err(error);
                }
            }
        }
    }

    /// In v2, groups below this one have the controllers that it has.
    fn enable_below(&self) -> Result<(), GroupError> {
        if self.version == Version::V2 {
            switch(&self.path, '+', &self.controllers)?;
        }
        Ok(())
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::WouldBlock
    )
}

/// Removes the groups of tasks that nobody looks after and nobody is in.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_systemds = [".slice", ".scope", ".service"]
            .iter()
            .any(|end| name.ends_with(end));
        if !name.starts_with(PREFIX) || name == OWN_LEAF || is_systemds {
            continue;
        }
        let locked = File::open(entry.path())
            .ok()
            .and_then(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).ok());
        let mut inside = Vec::new();
        collect(&entry.path(), &mut inside);
        if locked.is_some() && inside.is_empty() {
            remove_tree(&entry.path());
        }
    }
}

fn collect(path: &Path, found: &mut Vec<i32>) {
    found.extend(processes(path));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
}

/// Removes a group and those below it; true when it is not there any more.
fn remove_tree(path: &Path) -> bool {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    match fs::remove_dir(path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => {
            tracing::debug!("{}: {error}", path.display());
            false
        }
    }
}

/// What a directory of a hierarchy that we do not use ourselves is, by the files in it.
fn guess(path: &Path) -> (Version, Vec<Controller>) {
    let has = |file: &str| path.join(file).exists();
    if has("cgroup.controllers") {
        return (Version::V2, listed(&path.join("cgroup.controllers")));
    }
    let files = [
        (Controller::Cpu, "cpu.shares"),
        (Controller::CpuAcct, "cpuacct.usage"),
        (Controller::Memory, "memory.usage_in_bytes"),
        (Controller::Pids, "pids.max"),
    ];
    let found = files.into_iter().filter(|(_, file)| has(file));
    (
        Version::V1,
        found.map(|(controller, _)| controller).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_kernel_takes() {
        assert_eq!(group_name("web-1"), "dewar.web-1");
        let strange = group_name("a\nb");
        assert!(strange.starts_with("dewar.a_b-"), "{strange}");
        assert_ne!(group_name("a\nb"), group_name("a\tb"));
        let long = "ü".repeat(200);
        assert!(group_name(&long).len() < 255);
    }
}
