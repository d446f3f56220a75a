//! The kernel's cgroup controllers that are used here.

/// The version of a hierarchy of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Version 1: one hierarchy a controller.
    V1,
    /// Version 2: one hierarchy for all controllers.
    V2,
}

/// What governs one kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Limits time of the processor.
    Cpu,
    /// Counts that time; a controller of its own in v1 only.
    CpuAcct,
    /// Limits and counts memory.
    Memory,
    /// Limits and counts processes and threads.
    Pids,
    /// Shares time of the disks.
    Io,
}

impl Controller {
    /// All controllers of v1.
    pub const ALL: [Controller; 5] = [
        Controller::Cpu,
        Controller::CpuAcct,
        Controller::Memory,
        Controller::Pids,
        Controller::Io,
    ];

    /// Those that v2 has to be told to use for the groups below.
    pub const ENABLED: [Controller; 4] = [
        Controller::Cpu,
        Controller::Memory,
        Controller::Pids,
        Controller::Io,
    ];

    /// The name of the controller in the files of its hierarchy.
    pub fn name(self, version: Version) -> &'static str {
        match (self, version) {
            (Controller::Cpu, _) => "cpu",
            (Controller::CpuAcct, _) => "cpuacct",
            (Controller::Memory, _) => "memory",
            (Controller::Pids, _) => "pids",
            (Controller::Io, Version::V1) => "blkio",
            (Controller::Io, Version::V2) => "io",
        }
    }
}
