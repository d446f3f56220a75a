//! Limits that the kernel has for every single process: setrlimit(2), nice(2), oom_score_adj.

use rustix::process::{Resource, getrlimit};
use thiserror::Error;

use crate::task::{Resources, Rlimits};

/// A limit that this user may not set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{what}` cannot be set: {why}")]
pub struct RlimitError {
    /// The name of the limit in task files.
    pub what: String,
    /// What stands against it.
    pub why: String,
}

/// As [`Rlimits::NAMES`], whose order is that of the kernel's numbers.
const RESOURCES: [Resource; 16] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

/// The limits by the kernel's numbers: number, soft, hard; `u64::MAX` is unlimited.
pub fn rlimit_numbers(limits: &Rlimits) -> Vec<(u32, u64, u64)> {
    let named = Rlimits::NAMES.iter().enumerate();
    named
        .filter_map(|(number, name)| {
            let limit = limits.0.get(*name)?;
            let bound = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
            Some((number as u32, bound(limit.soft), bound(limit.hard)))
        })
        .collect()
}

/// Those of these limits that this user may not set: only root raises a hard limit or a priority,
/// or protects a process from being killed for memory.
pub fn check_rlimits(resources: &Resources) -> Vec<RlimitError> {
    let mut errors = Vec::new();
    if nix::unistd::geteuid().is_root() {
        return errors;
    }
    let mut refuse = |what: &str, why: String| {
        errors.push(RlimitError {
            what: what.to_owned(),
            why,
        });
    };
    for (number, _, hard) in rlimit_numbers(&resources.rlimits) {
        let now = getrlimit(RESOURCES[number as usize]);
        let most = now.maximum.unwrap_or(u64::MAX);
        if hard > most {
            let name = Rlimits::NAMES[number as usize];
            refuse(
                &format!("rlimits.{name}"),
                format!("at most {most} without root"),
            );
        }
    }
    if let Some(nice) = resources.nice {
        let own = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NICE);
        let most = own.map_or(0, |(soft, _)| soft.min(40));
        let lowest = (20 - most as i32).min(own_nice());
        if nice < lowest {
            refuse("nice", format!("at least {lowest} without root"));
        }
    }
    if let Some(adj) = resources.oom_score_adj {
        let own = own_oom_score_adj();
        if adj < own {
            refuse("oom_score_adj", format!("at least {own} without root"));
        }
    }
    errors
}

fn own_nice() -> i32 {
    rustix::process::getpriority_process(None).unwrap_or(0)
}

fn own_oom_score_adj() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::task::Rlimit;

    #[test]
    fn names_are_the_kernels_numbers() {
        let limit = Rlimit {
            soft: Some(1),
            hard: None,
        };
        let names = [
            ("cpu", 0),
            ("core", 4),
            ("nofile", 7),
            ("as", 9),
            ("rttime", 15),
        ];
        for (name, number) in names {
            let limits = Rlimits(BTreeMap::from([(name.to_owned(), limit)]));
            assert_eq!(rlimit_numbers(&limits), [(number, 1, u64::MAX)], "{name}");
        }
        assert_eq!(libc::RLIMIT_NOFILE, 7);
        assert_eq!(libc::RLIMIT_RTTIME, 15);
    }
}
