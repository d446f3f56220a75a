//! Where output goes and when a log is rotated, as types.

use serde::{Deserialize, Serialize};

use super::parse_units::Bytes;

/// Where output goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Logger {
    /// The readers of the output.
    pub destination: Destination,
    /// How the files grow.
    pub mode: LogMode,
    /// The sizes that `mode: rotate` uses.
    #[serde(default)]
    pub rotate: Rotate,
}

/// Who gets the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// It goes to files only.
    #[default]
    File,
    /// It is shown by clients that follow the task; locally there are files too.
    Console,
    /// It goes to files, and is shown too.
    Both,
    /// It is thrown away.
    None,
}

impl Destination {
    /// True when clients that follow the task show it.
    pub fn is_shown(self) -> bool {
        matches!(self, Destination::Console | Destination::Both)
    }
}

/// How log files grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogMode {
    /// Without bounds; the process writes them itself, unless it names /dev/stdout or is shown.
    #[default]
    Standard,
    /// Up to `rotate.log_size`, then anew, keeping `rotate.backups` old ones.
    Rotate,
}

/// The sizes of rotated logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rotate {
    /// A file that has reached this size becomes a backup.
    pub log_size: Bytes,
    /// The number of old files that are kept.
    pub backups: u32,
}

impl Default for Rotate {
    fn default() -> Rotate {
        Rotate {
            log_size: Bytes(100 << 20),
            backups: 5,
        }
    }
}
