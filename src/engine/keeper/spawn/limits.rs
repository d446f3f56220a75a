//! Limits of a run, from the wire to what a child sets.

use crate::{protocols::dewar::link as wire, resources::Limits, task::shown_bytes};

pub(crate) fn limits_of(wanted: &wire::Limits) -> Limits {
    Limits {
        cpu: wanted.cpu,
        cpu_weight: wanted.cpu_weight,
        ram: wanted.ram,
        ram_high: wanted.ram_high,
        swap: wanted.swap,
        pids: wanted.pids,
        io_weight: wanted.io_weight,
    }
}

/// The limits of the kernel's own kind, as the child sets them.
pub(super) fn rlimits_of(command: &wire::Launch) -> Vec<(u32, libc::rlimit)> {
    let of = |limit: &wire::Rlimit| {
        let bounds = libc::rlimit {
            rlim_cur: limit.soft,
            rlim_max: limit.hard,
        };
        (limit.resource, bounds)
    };
    command.rlimits.iter().map(of).collect()
}

pub(crate) fn bytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unknown".to_owned(), shown_bytes)
}
