//! Orphans: what the keeper, a subreaper, was handed by processes that ended, and of which run each
//! is as far as that is known.
//!
//! It is looked into where runs have no groups. Nothing is signalled here.

use std::{collections::HashMap, fs};

use crate::{
    engine::ipc::Key,
    sys::process::{self, Stat},
};

/// The orphans that are known, by pid.
#[derive(Debug, Default)]
pub(super) struct HandedOver {
    all: HashMap<i32, (Stat, Option<Key>)>,
}

impl HandedOver {
    /// True when no orphan is known.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// True when this very process was noted before.
    pub fn knows(&self, orphan: &Stat) -> bool {
        let known = self.all.get(&orphan.pid);
        known.is_some_and(|(stat, _)| stat.is_same(orphan))
    }

    /// Notes an orphan; `of` is its run, if that is known.
    pub fn add(&mut self, orphan: Stat, of: Option<Key>) {
        self.all.insert(orphan.pid, (orphan, of));
    }

    /// Forgets those that are gone.
    pub fn forget_the_dead(&mut self) {
        self.all.retain(|_, (stat, _)| is_alive(stat));
    }

    /// The living ones of runs of the same process before `key`.
    pub fn left_before(&self, key: Key) -> Vec<Stat> {
        let all = self.all.values();
        all.filter(|(_, of)| of.is_some_and(|of| of.precedes(key)))
            .filter(|(stat, _)| is_alive(stat))
            .map(|(stat, _)| *stat)
            .collect()
    }

    /// True when both processes write to the same file or pipe, which is not /dev/null.
    pub fn shares_output(first: i32, orphan: i32) -> bool {
        let output = |pid: i32, number: u32| fs::read_link(format!("/proc/{pid}/fd/{number}")).ok();
        [1, 2].into_iter().any(|number| {
            let its = output(orphan, number);
            its.is_some_and(|its| {
                its.as_os_str() != "/dev/null" && Some(its) == output(first, number)
            })
        })
    }
}

/// True while this very process lives.
fn is_alive(stat: &Stat) -> bool {
    process::stat(stat.pid).is_some_and(|now| now.is_same(stat) && !now.is_dead())
}
