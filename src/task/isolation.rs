//! How much a task sees of its machine, as types.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::parse_units::Bytes;

/// How far a task is kept from its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// The level of isolation.
    pub level: Level,
    /// Protections that a private task does without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Protection>,
}

impl Isolation {
    /// True when nothing was asked for.
    pub fn is_default(&self) -> bool {
        *self == Isolation::default()
    }

    /// True when the task is to have this protection.
    pub fn has(&self, protection: Protection) -> bool {
        self.level == Level::Private && !self.without.contains(&protection)
    }
}

/// Levels of isolation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A directory of its own, as Thermos had it.
    #[default]
    Directory,
    /// Namespaces, a file system of its own, and fewer rights.
    Private,
}

impl Level {
    /// All levels, the weakest first.
    pub const ALL: [Level; 2] = [Level::Directory, Level::Private];

    /// The name of the level in task files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Level::Directory => "directory",
            Level::Private => "private",
        }
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Level, String> {
        let found = Level::ALL.into_iter().find(|level| level.name() == text);
        found.ok_or_else(|| format!("there are: {}", Level::ALL.map(Level::name).join(", ")))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What makes a private task private. A task can do without each of them, if one of its programs
/// does not work with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// A file system of its own: the machine's programs to read, the sandbox to write.
    Mounts,
    /// It sees no process but its own.
    Pids,
    /// Its own System V IPC and message queues.
    Ipc,
    /// Its own host name.
    Uts,
    /// The rights of root that no service needs are taken away.
    Capabilities,
    /// No program gives it more rights than it has.
    NoNewPrivs,
    /// System calls that no service needs are refused.
    Seccomp,
    /// A second line of defence behind `Mounts`: which paths may be read or written.
    Landlock,
}

impl Protection {
    /// All of them.
    pub const ALL: [Protection; 8] = [
        Protection::Mounts,
        Protection::Pids,
        Protection::Ipc,
        Protection::Uts,
        Protection::Capabilities,
        Protection::NoNewPrivs,
        Protection::Seccomp,
        Protection::Landlock,
    ];

    /// The name of the protection in task files.
    pub fn name(self) -> &'static str {
        match self {
            Protection::Mounts => "mounts",
            Protection::Pids => "pids",
            Protection::Ipc => "ipc",
            Protection::Uts => "uts",
            Protection::Capabilities => "capabilities",
            Protection::NoNewPrivs => "no_new_privs",
            Protection::Seccomp => "seccomp",
            Protection::Landlock => "landlock",
        }
    }
}

/// A place in the file system of a private task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "VolumeText", into = "VolumeText")]
pub struct Volume {
    /// Where the task finds it.
    pub container_path: String,
    /// The kind of volume.
    pub kind: VolumeKind,
}

impl From<VolumeText> for Volume {
    fn from(text: VolumeText) -> Volume {
        let kind = match text.host_path {
            Some(host_path) => VolumeKind::Host {
                host_path,
                writable: text.mode.as_deref() == Some("RW"),
            },
            None => VolumeKind::Tmpfs {
                size: text.tmpfs.unwrap_or_default(),
            },
        };
        Volume {
            container_path: text.container_path,
            kind,
        }
    }
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeKind {
    /// A directory or file of the machine.
    Host {
        /// Its path on the machine.
        host_path: String,
        /// True when the task may write it.
        writable: bool,
    },
    /// Files in memory, gone with the task.
    Tmpfs {
        /// The most that the files may take.
        size: Bytes,
    },
}

impl VolumeKind {
    /// The path on the machine, if it has one.
    pub fn host_path(&self) -> Option<&String> {
        match self {
            VolumeKind::Host { host_path, .. } => Some(host_path),
            VolumeKind::Tmpfs { .. } => None,
        }
    }
}

/// A volume as task files have it, so that what `inspect` prints can be run.
#[derive(Serialize, Deserialize)]
struct VolumeText {
    container_path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tmpfs: Option<Bytes>,
}

impl From<Volume> for VolumeText {
    fn from(volume: Volume) -> VolumeText {
        let mut text = VolumeText {
            container_path: volume.container_path,
            host_path: None,
            mode: None,
            tmpfs: None,
        };
        match volume.kind {
            VolumeKind::Host {
                host_path,
                writable,
            } => {
                text.host_path = Some(host_path);
                text.mode = Some(if writable { "RW" } else { "RO" }.to_owned());
            }
            VolumeKind::Tmpfs { size } => text.tmpfs = Some(size),
        }
        text
    }
}
