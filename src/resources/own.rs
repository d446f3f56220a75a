//! What processes without a group use: added up from /proc, as far as a look tells.

use std::fs;

use super::usage::Usage;

/// The usage of these processes together. Time of children that were waited for is in their parents'.
pub fn own_usage(pids: &[i32]) -> Usage {
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
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let Some((_, rest)) = text.rsplit_once(") ") else {
            continue;
        };
        // proc(5) counts from 1, and `rest` begins with its third field.
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| -> u64 {
            let text = fields.get(number - 3).copied().unwrap_or_default();
            text.parse().unwrap_or(0)
        };
        // utime, stime, and those of waited-for children.
        cpu += (14..=17).map(field).sum::<u64>();
        threads += field(20);
        memory += field(24) * page;
    }
    usage.cpu_us = Some(cpu * 1_000_000 / ticks);
    usage.memory = Some(memory);
    usage.pids = Some(threads);
    usage
}
