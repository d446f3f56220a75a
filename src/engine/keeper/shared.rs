//! What root and keeper share from before their fork.

use std::{
    collections::{HashMap, HashSet},
    os::fd::OwnedFd,
    sync::Arc,
};

use nix::sys::signal::Signal;

use super::output::{FdSender, Pipes, Slot};
use crate::{
    engine::ipc::{Key, RunnerKind, SharedState},
    protocols::dewar::link as wire,
};

/// All that root and keeper share.
pub(super) struct Shared {
    pub directory: OwnedFd,
    /// Held by root and keeper as long as either lives: no other root looks after the task.
    pub _lock: OwnedFd,
    pub listener: OwnedFd,
    pub live: SharedState,
    pub executable: String,
    pub path: String,
    pub runner: &'static RunnerKind,
    /// How many files the user's programs may open, as it was found: the keeper may open more.
    pub open_files: (u64, u64),
    /// Hands copies of what the keeper reads to the root, while there is one.
    pub fd_sender: Option<Arc<FdSender>>,
    /// The pipes that a dead keeper was reading.
    pub pipes: HashMap<Slot, Pipes>,
}

impl Shared {
    /// Runs whose output a dead keeper read, and no keeper since.
    pub fn held(&self) -> Vec<wire::Held> {
        let keys: HashSet<Key> = self.pipes.keys().map(|slot| slot.key).collect();
        let held = keys.into_iter().map(|key| wire::Held {
            process: key.process,
            run: key.run,
            task: key.task,
        });
        held.collect()
    }

    /// True when a dead keeper read the output of this run, and it has not been read on yet.
    pub fn holds(&self, key: Key) -> bool {
        self.pipes.keys().any(|slot| slot.key == key)
    }
}

/// Signals that must not end root and keeper: a terminal that closes, an init that stops services.
pub(super) const IGNORED: [Signal; 5] = [
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGPIPE,
    Signal::SIGQUIT,
];
