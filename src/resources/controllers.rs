//! The kernel's cgroup controllers that are used here.

/// The version of a hierarchy of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy a controller.
    V1,
    /// One for all.
    V2,
}

/// What governs one kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Time of the processor.
    Cpu,
    /// Counts that time; a controller of its own in v1 only.
    CpuAcct,
    /// Memory.
    Memory,
    /// Processes and threads.
    Pids,
    /// Disks.
    Io,
}

impl Controller {
    /// All of them.
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

    /// As the files of its hierarchy call it.
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
