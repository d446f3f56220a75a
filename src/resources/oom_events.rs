//! The kernel's OOM event: an eventfd in cgroup v1, inotify in v2.
//!
//! The descriptors only say that something happened; the usage of the group says what.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use nix::sys::{
    eventfd::{EfdFlags, EventFd},
    inotify::{AddWatchFlags, InitFlags, Inotify},
};

use super::{cgroupfs::write, controllers::Version};

/// A descriptor that is readable when memory of the group in `path` has run out, or the kernel has
/// killed one of its processes.
///
/// # Errors
/// What the kernel says.
pub(super) fn watch(version: Version, path: &Path) -> io::Result<OwnedFd> {
    match version {
        Version::V1 => {
            let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
            let control = File::open(path.join("memory.oom_control"))?;
            // See cgroup_event_listener in the kernel's documentation of cgroup v1.
            let word = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
            write(&path.join("cgroup.event_control"), &word)?;
            Ok(event.into())
        }
        Version::V2 => {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            inotify.add_watch(&path.join("memory.events"), AddWatchFlags::IN_MODIFY)?;
            inotify.as_fd().try_clone_to_owned()
        }
    }
}
