//! Where cgroups can be made: the hierarchies of this machine, and the group of this process in
//! each.
//!
//! Everything is made below the group that dewar was started in (a container's, a systemd scope's),
//! so no process escapes the limits of that group. In v2 a group with processes cannot have groups
//! with controllers below it: dewar's own processes move to the leaf `dewar.keeper` first.
//! Processes of others are never moved.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use cgroups_rs::hierarchies::is_cgroup2_unified_mode;
use nix::{
    sys::statfs::{CGROUP2_SUPER_MAGIC, statfs},
    unistd::{AccessFlags, access},
};

use super::{
    cgroupfs::{
        OWN_LEAF, at, has_groups, knows_weights, listed, processes, strangers, switch, write,
    },
    controllers::{Controller, Version},
};

/// Where v2 is mounted beside v1.
const HYBRID: &str = "/sys/fs/cgroup/unified";
/// Where v2 is mounted alone.
const UNIFIED: &str = "/sys/fs/cgroup";

/// A hierarchy in which groups can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// The version of cgroups.
    pub version: Version,
    /// What it governs; empty for a v2 that only knows who is in which group.
    pub controllers: Vec<Controller>,
    /// The directory of the group below which groups are made.
    pub base: PathBuf,
}

/// All hierarchies, and why what is missing is missing.
#[derive(Clone, Debug, Default)]
pub struct Hierarchies {
    /// Those in which groups can be made.
    pub all: Vec<Hierarchy>,
    missing: Vec<(Controller, String)>,
}

impl Hierarchies {
    /// Looks at this machine, as this process sees it. Changes nothing.
    pub fn find() -> Hierarchies {
        Hierarchies::of_groups(&groups_of("self"))
    }

    /// Looks at it as the process `pid` would.
    pub fn of_process(pid: u32) -> Hierarchies {
        Hierarchies::of_groups(&groups_of(&pid.to_string()))
    }

    /// True when v2 is there, and only a group that is delegated to this user is missing.
    pub fn could_be_delegated(&self) -> bool {
        is_cgroup2_unified_mode() && !self.missing.is_empty()
    }

    fn of_groups(own: &HashMap<String, String>) -> Hierarchies {
        let mut hierarchies = Hierarchies::default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for controller in Controller::ALL {
            let Some((mount, root)) = mount_of_v1(&mounts, controller) else {
                continue;
            };
            if is_useless(controller, Version::V1) {
                hierarchies
                    .missing
                    .push((controller, NO_WEIGHTS.to_owned()));
                continue;
            }
            let own = own.get(controller.name(Version::V1));
            match base_in(mount, root, own) {
                Ok(base) => hierarchies.add(Version::V1, controller, base),
                Err(why) => hierarchies.missing.push((controller, why)),
            }
        }
        hierarchies.find_v2(own.get(""));
        for controller in Controller::ALL {
            let is_known = hierarchies.of(controller).is_some()
                || hierarchies
                    .missing
                    .iter()
                    .any(|(missing, _)| *missing == controller);
            if !is_known {
                let why = "no hierarchy of cgroups has it on this machine".to_owned();
                hierarchies.missing.push((controller, why));
            }
        }
        hierarchies
    }

    fn add(&mut self, version: Version, controller: Controller, base: PathBuf) {
        // Several controllers of v1 may share a hierarchy.
        match self.all.iter_mut().find(|one| one.base == base) {
            Some(one) => one.controllers.push(controller),
            None => self.all.push(Hierarchy {
                version,
                controllers: vec![controller],
                base,
            }),
        }
    }

    fn find_v2(&mut self, own: Option<&String>) {
        let Some(mount) = mount_of_v2() else {
            return;
        };
        let missing = |hierarchies: &mut Hierarchies, why: &str| {
            for controller in Controller::ENABLED {
                if mount == UNIFIED {
                    hierarchies.missing.push((controller, why.to_owned()));
                }
            }
        };
        let base = match base_of_v2(mount, own) {
            Ok(base) => base,
            Err(why) => return missing(self, &why),
        };
        let mut controllers = listed(&base.join("cgroup.controllers"));
        controllers.retain(|one| !is_useless(*one, Version::V2));
        if !controllers.is_empty()
            && let Err(why) = may_hold(&base, &controllers)
        {
            return missing(self, &why);
        }
        for controller in Controller::ENABLED {
            if mount == UNIFIED && !controllers.contains(&controller) {
                let name = controller.name(Version::V2);
                let why = match is_useless(controller, Version::V2) {
                    true => NO_WEIGHTS.to_owned(),
                    false => format!("the cgroup {} is not given `{name}`", base.display()),
                };
                self.missing.push((controller, why));
            }
        }
        self.all.push(Hierarchy {
            version: Version::V2,
            controllers,
            base,
        });
    }

    /// Undoes what was changed above the groups of tasks, when none is left.
    pub fn restore(&self) {
        self.all.iter().for_each(Hierarchy::restore);
    }

    /// The hierarchy that has `controller`.
    pub fn of(&self, controller: Controller) -> Option<&Hierarchy> {
        let mut all = self.all.iter();
        all.find(|one| one.controllers.contains(&controller))
    }

    /// Why `controller` cannot be used.
    pub fn why_not(&self, controller: Controller) -> &str {
        let mut missing = self.missing.iter();
        missing
            .find(|(missing, _)| *missing == controller)
            .map_or("", |(_, why)| why)
    }
}

/// Why weights of disks cannot be enforced.
const NO_WEIGHTS: &str = "no disk's scheduler knows weights (bfq does, or io.cost of cgroup v2)";

/// True when a group in the hierarchy of this controller would enforce nothing here.
fn is_useless(controller: Controller, version: Version) -> bool {
    controller == Controller::Io && !knows_weights(version)
}

/// Where v2 is mounted, alone or beside v1.
pub(super) fn mount_of_v2() -> Option<&'static str> {
    let is_v2 =
        |path: &str| statfs(path).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC);
    match is_cgroup2_unified_mode() {
        true => Some(UNIFIED),
        false => is_v2(HYBRID).then_some(HYBRID),
    }
}

/// The directory of the group of v2 below which groups are made: ours, or the one that dewar's own
/// processes have made room in.
pub(super) fn base_of_v2(mount: &str, own: Option<&String>) -> Result<PathBuf, String> {
    let mut base = base_in(Path::new(mount), Path::new("/"), own)?;
    if base.file_name().is_some_and(|name| name == OWN_LEAF) {
        base.pop();
    }
    Ok(base)
}

/// Where a controller of v1 is mounted, and from which group on. See proc_pid_mountinfo(5).
pub(super) fn mount_of_v1(mounts: &str, controller: Controller) -> Option<(&Path, &Path)> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, mount) = (place.next()?, place.next()?);
        let mut kind = kind.split(' ');
        let (kind, options) = (kind.next()?, kind.nth(1)?);
        let mut options = options.split(',');
        let is_it = kind == "cgroup" && options.any(|one| one == controller.name(Version::V1));
        is_it.then(|| (Path::new(mount), Path::new(root)))
    })
}

/// The group of v2 in which a process is.
pub(super) fn group_of(pid: u32) -> Option<String> {
    groups_of(&pid.to_string()).remove("")
}

/// The groups of a process by controller; v2's is under the empty name. See cgroups(7),
/// /proc/PID/cgroup.
pub(super) fn groups_of(process: &str) -> HashMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
    let mut groups = HashMap::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (fields.next(), fields.next()) {
            for controller in controllers.split(',') {
                groups.insert(controller.to_owned(), path.to_owned());
            }
        }
    }
    groups
}

/// The directory of this process' group in a hierarchy that is mounted at `mount` from `root` on.
pub(super) fn base_in(mount: &Path, root: &Path, own: Option<&String>) -> Result<PathBuf, String> {
    let own = own.ok_or("the kernel does not say in which cgroup we are")?;
    let below = Path::new(own).strip_prefix(root).map_err(|_| {
        format!(
            "our cgroup {own} is outside of what is mounted at {}",
            mount.display()
        )
    })?;
    let base = mount.join(below);
    // A trailing slash is no part of a name.
    let base = base.components().collect::<PathBuf>();
    match access(&base, AccessFlags::W_OK) {
        Ok(()) => Ok(base),
        Err(errno) => Err(format!(
            "no cgroup can be made in {}: {}",
            base.display(),
            errno.desc()
        )),
    }
}

/// Whether groups with controllers can be made below `base`, in v2.
fn may_hold(base: &Path, controllers: &[Controller]) -> Result<(), String> {
    if is_root(base) || lacks(base, controllers).is_empty() {
        return Ok(());
    }
    let control = base.join("cgroup.subtree_control");
    if let Err(errno) = access(&control, AccessFlags::W_OK) {
        return Err(format!(
            "{} is not delegated to us: {}",
            base.display(),
            errno.desc()
        ));
    }
    match strangers(base) {
        0 => Ok(()),
        count => Err(format!(
            "{} has {count} process(es) of others in it, which must not be moved",
            base.display()
        )),
    }
}

fn is_root(base: &Path) -> bool {
    !base.join("cgroup.type").exists()
}

/// Which of `controllers` the groups below `base` do not get yet.
fn lacks(base: &Path, controllers: &[Controller]) -> Vec<Controller> {
    let enabled = listed(&base.join("cgroup.subtree_control"));
    let controllers = controllers.iter().copied();
    controllers.filter(|one| !enabled.contains(one)).collect()
}

impl Hierarchy {
    /// Lets the groups below the base have controllers; dewar's own processes make room.
    ///
    /// # Errors
    /// What the kernel says, and of which file.
    pub(super) fn prepare(&self) -> io::Result<()> {
        if self.version == Version::V1 || self.controllers.is_empty() {
            return Ok(());
        }
        let lacking = lacks(&self.base, &self.controllers);
        if lacking.is_empty() {
            return Ok(());
        }
        if !is_root(&self.base) {
            may_hold(&self.base, &self.controllers).map_err(io::Error::other)?;
            self.move_out()?;
        }
        switch(&self.base, '+', &lacking)
    }

    fn move_out(&self) -> io::Result<()> {
        let leaf = self.base.join(OWN_LEAF);
        match fs::create_dir(&leaf) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(|error| at(&leaf, error))?,
        }
        // A process that one of dewar's forks meanwhile is seen by the next look.
        const LOOKS: usize = 10;
        for _ in 0..LOOKS {
            let left = processes(&self.base);
            if left.is_empty() {
                return Ok(());
            }
            for pid in left {
                match write(&leaf.join("cgroup.procs"), &pid.to_string()) {
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    moved => moved?,
                }
            }
        }
        Ok(())
    }

    /// True when dewar's own processes have made room below the base.
    pub fn is_prepared(&self) -> bool {
        self.version == Version::V2 && self.base.join(OWN_LEAF).exists()
    }

    /// Undoes what was changed for groups with controllers, when no group of a task is left.
    fn restore(&self) {
        let leaf = self.base.join(OWN_LEAF);
        if self.version == Version::V1 || !leaf.exists() || has_groups(&self.base) {
            return;
        }
        let restored = (|| -> io::Result<()> {
            switch(&self.base, '-', &self.controllers)?;
            for pid in processes(&leaf) {
                write(&self.base.join("cgroup.procs"), &pid.to_string())?;
            }
            fs::remove_dir(&leaf)
        })();
        if let Err(error) = restored {
            tracing::info!("{} is left: {error}", leaf.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_of_v1_is_found_where_it_is_mounted() {
        let mounts = "\
25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw
33 32 0:28 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate
36 32 0:31 /docker/7 /sys/fs/cgroup/cpu,cpuacct rw shared:16 master:3 - cgroup cgroup rw,cpu,cpuacct
37 32 0:32 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
";
        let found = |controller| mount_of_v1(mounts, controller);
        let both = Some((
            Path::new("/sys/fs/cgroup/cpu,cpuacct"),
            Path::new("/docker/7"),
        ));
        assert_eq!(found(Controller::Cpu), both);
        assert_eq!(found(Controller::CpuAcct), both);
        let pids = Some((Path::new("/sys/fs/cgroup/pids"), Path::new("/")));
        assert_eq!(found(Controller::Pids), pids);
        assert_eq!(found(Controller::Memory), None);
    }
}
