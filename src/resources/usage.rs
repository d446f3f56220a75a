//! What a group of processes has used.

use std::{fs, path::Path};

use super::controllers::{Controller, Version};

/// Used by a group since it was made; `None` is not known here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on the processor, microseconds.
    pub cpu_us: Option<u64>,
    /// Time that it had to wait because of its quota, microseconds.
    pub throttled_us: Option<u64>,
    /// Memory now, bytes.
    pub memory: Option<u64>,
    /// Memory at most, bytes.
    pub memory_peak: Option<u64>,
    /// Memory that it may use, bytes; `None`: as much as there is.
    pub memory_limit: Option<u64>,
    /// Processes that the kernel killed because the group was out of memory.
    pub oom_kills: Option<u64>,
    /// Processes and threads now.
    pub pids: Option<u64>,
    /// Processes and threads at most.
    pub pids_peak: Option<u64>,
    /// Forks that were refused.
    pub pids_refused: Option<u64>,
}

/// Which figures are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Time, memory and processes at the moment.
    Now,
    /// Also peaks, limits and what was refused.
    All,
}

impl Usage {
    /// Reads what the controllers of one directory tell.
    pub(super) fn add(
        &mut self,
        version: Version,
        controllers: &[Controller],
        path: &Path,
        depth: Depth,
    ) {
        let all = depth == Depth::All;
        let number = |name: &str| -> Option<u64> {
            let text = fs::read_to_string(path.join(name)).ok()?;
            text.trim().parse().ok()
        };
        let field = |name: &str, key: &str| -> Option<u64> {
            let text = fs::read_to_string(path.join(name)).ok()?;
            field_of(&text, key)
        };
        for controller in controllers {
            match (controller, version) {
                (Controller::Cpu, Version::V1) => {
                    if all {
                        let waited = field("cpu.stat", "throttled_time");
                        self.throttled_us = waited.map(|ns| ns / 1000);
                    }
                }
                (Controller::CpuAcct, Version::V1) => {
                    self.cpu_us = number("cpuacct.usage").map(|ns| ns / 1000);
                }
                (Controller::Cpu | Controller::CpuAcct, Version::V2) => {
                    if let Ok(text) = fs::read_to_string(path.join("cpu.stat")) {
                        self.cpu_us = field_of(&text, "usage_usec");
                        self.throttled_us = field_of(&text, "throttled_usec");
                    }
                }
                (Controller::Memory, Version::V1) => {
                    self.memory = number("memory.usage_in_bytes");
                    if all {
                        self.memory_peak = number("memory.max_usage_in_bytes");
                        // Without a limit it is a number beyond all memory.
                        let limit = number("memory.limit_in_bytes");
                        self.memory_limit = limit.filter(|limit| *limit < 1 << 60);
                        self.oom_kills = field("memory.oom_control", "oom_kill");
                    }
                }
                (Controller::Memory, Version::V2) => {
                    self.memory = number("memory.current");
                    if all {
                        self.memory_peak = number("memory.peak");
                        self.memory_limit = number("memory.max");
                        self.oom_kills = field("memory.events", "oom_kill");
                    }
                }
                (Controller::Pids, _) => {
                    self.pids = number("pids.current");
                    if all {
                        self.pids_peak = number("pids.peak");
                        self.pids_refused = field("pids.events", "max");
                    }
                }
                (Controller::Io, _) => {}
            }
        }
    }
}

/// The number behind `key` in lines of `KEY NUMBER`.
fn field_of(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}
