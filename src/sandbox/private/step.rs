//! One step of building a private task's namespaces.
//!
//! A step holds everything that its system calls need, allocated beforehand: `init.rs` carries it
//! out in a child of a process with threads, where nothing may allocate. It decides nothing.

use std::ffi::CString;

/// One thing to do. Trees of mounts that were taken are kept in numbered slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Writes a file: the maps of a user namespace.
    Write { path: CString, text: CString },
    /// Makes the mounts of this namespace its own: nothing that is mounted is seen outside, nor the
    /// other way round.
    Detach,
    /// Takes a copy of the tree of mounts at `path`.
    Take {
        slot: usize,
        path: CString,
        /// With what is mounted below it.
        deep: bool,
    },
    /// Forbids things for a tree.
    Restrict {
        slot: usize,
        attributes: u64,
        deep: bool,
    },
    /// Mounts an empty file system in memory, and enters it.
    NewRoot { path: CString },
    /// Makes it the root; the old root is mounted on top of it.
    Pivot,
    /// Makes a directory, if it is not there.
    Directory { path: CString },
    /// Makes an empty file, if it is not there.
    File { path: CString },
    /// Makes a symbolic link.
    Link { target: CString, path: CString },
    /// Mounts a tree that was taken.
    Put { slot: usize, path: CString },
    /// Mounts a file system of this kind.
    Mount {
        kind: CString,
        path: CString,
        flags: u64,
        options: CString,
    },
    /// Unmounts the old root.
    Forget,
    /// Forbids writing at the root itself.
    Seal,
    /// Hides a file, if it is there, behind /dev/null.
    Hide { path: CString },
    /// Makes what is below a directory read-only, if it is there.
    Freeze { path: CString },
    /// Hides a directory, if it is there, behind an empty one.
    Cover { path: CString },
}

impl Step {
    /// The step for people, as in "cannot take /srv/data": a verb and a path.
    pub(super) fn shown(&self) -> String {
        let text = |path: &CString| path.to_string_lossy().into_owned();
        match self {
            Step::Write { path, .. } => format!("write {}", text(path)),
            Step::Detach => "make its mounts its own".to_owned(),
            Step::Take { path, .. } => format!("take {}", text(path)),
            Step::Restrict { .. } => "forbid writing".to_owned(),
            Step::NewRoot { path } => format!("mount a new root at {}", text(path)),
            Step::Pivot => "enter the new root".to_owned(),
            Step::Directory { path } => format!("make the directory {}", text(path)),
            Step::File { path } => format!("make the file {}", text(path)),
            Step::Link { path, .. } => format!("make the link {}", text(path)),
            Step::Put { path, .. } => format!("mount {}", text(path)),
            Step::Mount { kind, path, .. } => format!("mount {} at {}", text(kind), text(path)),
            Step::Forget => "leave the old root".to_owned(),
            Step::Seal => "make the new root read-only".to_owned(),
            Step::Hide { path } => format!("hide {}", text(path)),
            Step::Cover { path } => format!("hide {}", text(path)),
            Step::Freeze { path } => format!("make {} read-only", text(path)),
        }
    }
}

/// Paths and options come without NUL bytes: from the system, or from a checked task.
pub(super) fn c(text: impl AsRef<[u8]>) -> CString {
    let bytes: Vec<u8> = text
        .as_ref()
        .iter()
        .copied()
        .filter(|byte| *byte != 0)
        .collect();
    CString::new(bytes).unwrap_or_default()
}
