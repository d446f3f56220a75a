//! The scripts of health checks that run now, and until when each may.
//!
//! A script is ungated and unrecorded. Nothing is started or killed here.

use std::{fs::File, os::fd::OwnedFd};

use crate::{protocols::dewar::link as wire, resources::Group};

/// A script that runs.
#[derive(Debug)]
pub(super) struct HealthScript {
    /// Which check it is of; how it ended is added.
    pub about: wire::Probed,
    pub pid: i32,
    pub start_ticks: u64,
    pub pidfd: OwnedFd,
    /// Its slot in the shared state.
    pub slot: usize,
    /// Its own group, if there can be one.
    pub group: Option<Group>,
    /// The gate, open for it all the time.
    pub _gate: OwnedFd,
    /// What it has written.
    pub output: File,
    /// When it has taken too long, microseconds of CLOCK_BOOTTIME.
    pub until: u64,
    /// It took too long, and is being killed.
    pub is_overdue: bool,
}

/// All scripts that run, by the index that epoll carries.
#[derive(Debug, Default)]
pub(super) struct HealthScripts {
    slab: Vec<Option<HealthScript>>,
}

impl HealthScripts {
    /// An index that is free.
    pub fn free_index(&self) -> usize {
        let free = self.slab.iter().position(Option::is_none);
        free.unwrap_or(self.slab.len())
    }

    /// Adds a script at a free index.
    pub fn insert(&mut self, index: usize, script: HealthScript) {
        if index >= self.slab.len() {
            self.slab.resize_with(index + 1, || None);
        }
        self.slab[index] = Some(script);
    }

    /// The script with this index.
    pub fn get(&self, index: usize) -> Option<&HealthScript> {
        self.slab.get(index)?.as_ref()
    }

    /// Removes a script that has ended.
    pub fn remove(&mut self, index: usize) -> Option<HealthScript> {
        self.slab.get_mut(index)?.take()
    }

    /// True when this is the first process of a script.
    pub fn has_pid(&self, pid: i32) -> bool {
        self.slab.iter().flatten().any(|script| script.pid == pid)
    }

    /// When the next script has taken too long.
    pub fn due(&self) -> Option<u64> {
        let running = self.slab.iter().flatten();
        let timed = running.filter(|script| !script.is_overdue);
        timed.map(|script| script.until).min()
    }

    /// The index of each script that has taken too long by `clock`, once.
    pub fn take_overdue(&mut self, clock: u64) -> Vec<usize> {
        let mut overdue = Vec::new();
        for (index, script) in self.slab.iter_mut().enumerate() {
            if let Some(script) = script
                && script.until <= clock
                && !script.is_overdue
            {
                script.is_overdue = true;
                overdue.push(index);
            }
        }
        overdue
    }
}
