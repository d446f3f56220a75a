//! What inotify tells of the directories of logs: which of them changed, and how many files of a
//! name were made in them.
//!
//! Every rotation makes one file, so a follower that was late knows how many files there have been.
//! Events that the kernel had to drop are not made up for: then nothing is counted any more.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// Events of all watched directories.
#[derive(Debug)]
pub(super) struct LogEvents {
    inotify: Inotify,
    changed: HashSet<WatchDescriptor>,
    /// Files that were made, by directory and name.
    made: HashMap<(WatchDescriptor, OsString), u64>,
    /// The kernel has dropped events, so any directory may have changed.
    has_dropped: bool,
    /// The kernel dropped events at some time, so `made` is not to be trusted.
    is_blind: bool,
}

impl LogEvents {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// What inotify says.
    pub fn new() -> io::Result<LogEvents> {
        Ok(LogEvents {
            inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?,
            changed: HashSet::new(),
            made: HashMap::new(),
            has_dropped: false,
            is_blind: false,
        })
    }

    /// Readable when there are events that were not read yet.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Watches a directory. `None` when that is not possible; the reason is logged.
    pub fn watch(&self, directory: &Path) -> Option<WatchDescriptor> {
        let changes = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
        match self.inotify.add_watch(directory, changes) {
            Ok(watch) => Some(watch),
            Err(errno) => {
                tracing::info!("cannot watch {}: {errno}", directory.display());
                None
            }
        }
    }

    /// Forgets a directory.
    pub fn unwatch(&mut self, watch: WatchDescriptor) {
        if let Err(errno) = self.inotify.rm_watch(watch) {
            // The directory may be gone, and the watch with it.
            tracing::debug!("inotify: {errno}");
        }
        self.made.retain(|(other, _), _| *other != watch);
    }

    fn read(&mut self) {
        while let Ok(events) = self.inotify.read_events()
            && !events.is_empty()
        {
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    self.has_dropped = true;
                    self.is_blind = true;
                }
                self.changed.insert(event.wd);
                if let (true, Some(name)) =
                    (event.mask.contains(AddWatchFlags::IN_CREATE), event.name)
                {
                    *self.made.entry((event.wd, name)).or_default() += 1;
                }
            }
        }
    }

    /// The directories that have changed since the last call; `None` when any may have.
    pub fn take_changed(&mut self) -> Option<HashSet<WatchDescriptor>> {
        self.read();
        let changed = std::mem::take(&mut self.changed);
        match std::mem::take(&mut self.has_dropped) {
            true => None,
            false => Some(changed),
        }
    }

    /// True when events were read that [`take_changed`](Self::take_changed) has not returned yet:
    /// nothing tells of them any more.
    pub fn has_changed(&self) -> bool {
        self.has_dropped || !self.changed.is_empty()
    }

    /// How many files of this name have been made in a directory since it is watched, up to now.
    /// `None` when that is not known.
    pub fn made(&mut self, watch: Option<WatchDescriptor>, name: &str) -> Option<u64> {
        let watch = watch?;
        self.read();
        let count = self.made.get(&(watch, name.into()));
        (!self.is_blind).then(|| count.copied().unwrap_or(0))
    }
}
