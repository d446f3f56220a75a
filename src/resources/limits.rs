//! Limits of a group: which are asked for, whether this machine can enforce them, and setting them.

use std::{fs, path::Path};

use cgroups_rs::{
    MaxValue, blkio::BlkIoController, cpu::CpuController, memory::MemController, pid::PidController,
};
use thiserror::Error;

use super::{
    cgroupfs,
    controllers::{Controller, Version},
    hierarchies::Hierarchies,
};
use crate::task::Resources;

/// What a group of processes may use together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Cores, as a share of time; 0: no limit.
    pub cpu: f64,
    /// The share of the CPU, 1 to 10 000; `None`: 100, as all groups have.
    pub cpu_weight: Option<u32>,
    /// Bytes of memory; 0: no limit.
    pub ram: u64,
    /// Bytes of memory from which on the group is slowed down.
    pub ram_high: Option<u64>,
    /// Bytes of swap space.
    pub swap: Option<u64>,
    /// Processes and threads at a time.
    pub pids: Option<u32>,
    /// The share of the disks, 1 to 10 000; `None`: 100, as all groups have.
    pub io_weight: Option<u32>,
}

/// A limit that cannot be enforced here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{what}` cannot be enforced: {why}")]
pub struct LimitError {
    /// The name of the limit in task files.
    pub what: &'static str,
    /// What is missing.
    pub why: String,
}

/// The period of the quota, microseconds: the kernel's default, and its longest for small shares.
const PERIOD_US: u64 = 100_000;
const LONG_PERIOD_US: u64 = 1_000_000;
/// The smallest quota that the kernel takes, microseconds.
const SMALLEST_QUOTA_US: f64 = 1_000.0;

impl Limits {
    /// Those of `resources` that concern a group.
    pub fn of(resources: &Resources) -> Limits {
        Limits {
            cpu: resources.cpu,
            cpu_weight: resources.cpu_weight,
            ram: resources.ram.0,
            ram_high: resources.ram_high.map(|bytes| bytes.0),
            swap: resources.swap.map(|bytes| bytes.0),
            pids: resources.pids,
            io_weight: resources.io_weight,
        }
    }

    /// True when nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }

    /// The limits that are given, each with the controller that enforces it.
    fn given(&self) -> Vec<(&'static str, Controller)> {
        let all = [
            ("cpu", Controller::Cpu, self.cpu > 0.0),
            ("cpu_weight", Controller::Cpu, self.cpu_weight.is_some()),
            ("ram", Controller::Memory, self.ram > 0),
            ("ram_high", Controller::Memory, self.ram_high.is_some()),
            ("swap", Controller::Memory, self.swap.is_some()),
            ("pids", Controller::Pids, self.pids.is_some()),
            ("io_weight", Controller::Io, self.io_weight.is_some()),
        ];
        let given = all.into_iter().filter(|(.., is_given)| *is_given);
        given
            .map(|(what, controller, _)| (what, controller))
            .collect()
    }

    /// Those of these limits that this machine cannot enforce.
    pub fn problems(&self, hierarchies: &Hierarchies) -> Vec<LimitError> {
        let given = self.given().into_iter();
        given
            .filter_map(|(what, controller)| {
                let why = match hierarchies.of(controller) {
                    None => Some(hierarchies.why_not(controller).to_owned()),
                    Some(hierarchy) => self.cannot(what, hierarchy.version, &hierarchy.base),
                };
                Some(LimitError { what, why: why? })
            })
            .collect()
    }

    /// Why one limit cannot be enforced although its controller is there.
    fn cannot(&self, what: &str, version: Version, base: &Path) -> Option<String> {
        let v1 = version == Version::V1;
        let why = match what {
            "ram_high" if v1 => "cgroup v1 cannot slow a process down for its memory; v2 can",
            "swap" if v1 && self.ram == 0 => {
                "cgroup v1 limits memory and swap together: give `ram` too"
            }
            "swap" if v1 && !base.join("memory.memsw.limit_in_bytes").exists() => {
                "this kernel does not account swap (boot it with swapaccount=1)"
            }
            "cpu" if quota(self.cpu).is_none() => "less than a thousandth of a core",
            _ => return None,
        };
        Some(why.to_owned())
    }

    /// Sets the limits of the group whose directories are `places`; what cannot be set is returned.
    pub(super) fn apply(&self, places: &[(Version, &[Controller], &Path)]) -> Vec<LimitError> {
        let given = self.given().into_iter();
        let errors = given.filter_map(|(what, controller)| {
            let place = places
                .iter()
                .find(|(_, controllers, _)| controllers.contains(&controller));
            let why = match place {
                None => Some("there is no controller for it here".to_owned()),
                Some((version, _, path)) => self
                    .cannot(what, *version, path.parent().unwrap_or(path))
                    .or_else(|| self.set(what, *version, path).err()),
            };
            Some(LimitError { what, why: why? })
        });
        errors.collect()
    }

    fn set(&self, what: &str, version: Version, path: &Path) -> Result<(), String> {
        let v2 = version == Version::V2;
        let own = || path.to_path_buf();
        let cpu = || CpuController::new(own(), v2);
        let memory = || MemController::new(own(), v2);
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let set = match what {
            "cpu" => {
                let (quota, period) = quota(self.cpu).unwrap_or((-1, PERIOD_US));
                match v2 {
                    true => cpu().set_cfs_quota_and_period(Some(quota), Some(period)),
                    // The period first: the quota is checked against it.
                    false => cpu()
                        .set_cfs_period(period)
                        .and_then(|()| cpu().set_cfs_quota(quota)),
                }
            }
            "cpu_weight" => cpu().set_shares(shares(self.cpu_weight.unwrap_or(100), version)),
            "ram" => memory().set_limit(bytes(self.ram)),
            "swap" => {
                let swap = self.swap.unwrap_or_default();
                let both = if v2 {
                    swap
                } else {
                    self.ram.saturating_add(swap)
                };
                memory().set_memswap_limit(bytes(both))
            }
            "ram_high" => {
                let high = self.ram_high.unwrap_or_default().to_string();
                return cgroupfs::write(&path.join("memory.high"), &high)
                    .map_err(|error| error.to_string());
            }
            "pids" => {
                let most = MaxValue::Value(self.pids.unwrap_or_default().into());
                PidController::new(own(), v2).set_pid_max(most)
            }
            _ => return self.set_io(path, v2),
        };
        match set {
            // v1 refuses a quota above that of a group above, which is enforced anyway.
            Err(_) if what == "cpu" && !v2 && has_less(path.parent(), self.cpu) => Ok(()),
            set => set.map_err(|error| plain(&error)),
        }
    }

    fn set_io(&self, path: &Path, v2: bool) -> Result<(), String> {
        let weight = self.io_weight.unwrap_or(100);
        let io = path.join("io.weight");
        if v2 && io.exists() {
            return cgroupfs::write(&io, &weight.to_string()).map_err(|error| error.to_string());
        }
        let bfq = path.join("blkio.bfq.weight");
        if !v2 && bfq.exists() {
            let weight = bfq_weight(weight).to_string();
            return cgroupfs::write(&bfq, &weight).map_err(|error| error.to_string());
        }
        BlkIoController::new(path.to_path_buf(), v2)
            .set_weight(bfq_weight(weight).into())
            .map_err(|error| plain(&error))
    }
}

/// True when a group of v1 has fewer cores than these.
fn has_less(group: Option<&Path>, cores: f64) -> bool {
    let number = |name: &str| -> Option<f64> {
        let text = fs::read_to_string(group?.join(name)).ok()?;
        text.trim().parse().ok()
    };
    let quota = number("cpu.cfs_quota_us").filter(|quota| *quota > 0.0);
    match (quota, number("cpu.cfs_period_us")) {
        (Some(quota), Some(period)) => quota / period < cores,
        _ => group.is_some_and(|group| {
            group.join("cpu.shares").exists() && has_less(group.parent(), cores)
        }),
    }
}

/// Quota and period, microseconds.
fn quota(cores: f64) -> Option<(i64, u64)> {
    let of = |period: u64| cores * period as f64;
    let period = [PERIOD_US, LONG_PERIOD_US]
        .into_iter()
        .find(|period| of(*period) >= SMALLEST_QUOTA_US)?;
    Some((of(period).round() as i64, period))
}

/// A weight as v1 has it: shares from 2 to 262144, by default 1024.
fn shares(weight: u32, version: Version) -> u64 {
    match version {
        Version::V1 => (u64::from(weight) * 1024 / 100).clamp(2, 262_144),
        Version::V2 => weight.into(),
    }
}

/// A weight as BFQ has it: from 1 to 1000, by default 100.
fn bfq_weight(weight: u32) -> u32 {
    match weight {
        0..=100 => weight.max(1),
        more => 100 + (more - 100) * 900 / 9_900,
    }
}

/// The error of the library, with the error of the system call at the end.
fn plain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_core_becomes_a_quota() {
        assert_eq!(quota(0.5), Some((50_000, 100_000)));
        assert_eq!(quota(2.0), Some((200_000, 100_000)));
        assert_eq!(quota(0.005), Some((5_000, 1_000_000)));
        assert_eq!(quota(0.0005), None);
    }

    #[test]
    fn weights_keep_their_meaning() {
        assert_eq!(shares(100, Version::V1), 1024);
        assert_eq!(shares(1, Version::V1), 10);
        assert_eq!(shares(10_000, Version::V1), 102_400);
        assert_eq!(shares(7, Version::V2), 7);
        assert_eq!(
            (bfq_weight(100), bfq_weight(10_000), bfq_weight(1)),
            (100, 1000, 1)
        );
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let limits = Limits {
            ram_high: Some(1 << 20),
            pids: Some(3),
            ..Limits::default()
        };
        let problems = limits.problems(&Hierarchies::default());
        let names: Vec<&str> = problems.iter().map(|problem| problem.what).collect();
        assert_eq!(names, ["ram_high", "pids"]);
    }
}
