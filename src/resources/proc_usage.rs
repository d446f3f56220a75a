//! What processes without a group use, added up from /proc: only of those that live now.

use super::usage::Usage;
use crate::sys::stat::ProcessStat;

/// The usage of these processes together. Time of children that were waited for is part of their
/// parents'.
pub fn usage_of_processes(pids: &[i32]) -> Usage {
    let ticks = match nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK) {
        Ok(Some(ticks)) if ticks > 0 => ticks as u64,
        _ => 100,
    };
    let page = match nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE) {
        Ok(Some(page)) if page > 0 => page as u64,
        _ => 4096,
    };
    let mut usage = Usage::default();
    let (mut cpu, mut memory, mut threads) = (0, 0, 0);
    for pid in pids {
        let Ok(Some(stat)) = ProcessStat::read(*pid) else {
            continue;
        };
        // utime, stime, and those of waited-for children.
        cpu += stat.sum(14..18);
        threads += stat.field::<u64>(20).unwrap_or(0);
        memory += stat.field::<u64>(24).unwrap_or(0) * page;
    }
    usage.cpu_us = Some(cpu * 1_000_000 / ticks);
    usage.memory = Some(memory);
    usage.pids = Some(threads);
    usage
}
