//! Clients that watch a job: each gets a line whenever the job looks different.
//!
//! A client that does not read has only a few lines waiting here; the newest line follows when
//! there is room.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::core::{Key, SchedulerCore};

/// Lines that wait for one client at most.
const WAITING: usize = 16;

struct Watcher {
    key: Key,
    /// The last line that it was sent.
    last: Bytes,
    send: mpsc::Sender<Bytes>,
    /// A line did not fit.
    is_behind: bool,
}

/// The watchers of all jobs.
#[derive(Default)]
pub(super) struct Watchers(Vec<Watcher>);

impl Watchers {
    /// Adds a watcher; its first line is how the job is now.
    pub fn add(&mut self, key: Key, core: &SchedulerCore) -> mpsc::Receiver<Bytes> {
        self.0.retain(|watcher| !watcher.send.is_closed());
        let (send, receive) = mpsc::channel(WAITING);
        let mut watcher = Watcher {
            last: Bytes::new(),
            key,
            send,
            is_behind: false,
        };
        watcher.send(line(&watcher.key, core));
        self.0.push(watcher);
        receive
    }

    /// True when no job is watched.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends new lines of the jobs that changed. Watchers that have left, or whose job is gone, are
    /// removed.
    pub fn tell(&mut self, core: &SchedulerCore, changed: &BTreeSet<Key>) {
        let mut lines: BTreeMap<Key, Bytes> = BTreeMap::new();
        self.0.retain_mut(|watcher| {
            if watcher.send.is_closed() {
                return false;
            }
            if !changed.contains(&watcher.key) {
                return true;
            }
            let known = lines.entry(Arc::clone(&watcher.key));
            let line = known.or_insert_with(|| line(&watcher.key, core));
            watcher.send(line.clone());
            watcher.is_behind || core.state().jobs.contains_key(&watcher.key)
        });
    }

    /// Sends every watcher a sign of life, or the line that it has missed.
    pub fn beat(&mut self, core: &SchedulerCore) {
        self.0.retain_mut(|watcher| {
            if watcher.is_behind {
                watcher.send(line(&watcher.key, core));
                return watcher.is_behind || core.state().jobs.contains_key(&watcher.key);
            }
            // A watcher with lines waiting needs no sign of life.
            let sent = watcher.send.try_send(Bytes::from_static(b"\n"));
            !matches!(sent, Err(TrySendError::Closed(_)))
        });
    }
}

impl Watcher {
    fn send(&mut self, line: Bytes) {
        if line == self.last && !self.is_behind {
            return;
        }
        self.is_behind = match self.send.try_send(line.clone()) {
            Ok(()) => {
                self.last = line;
                false
            }
            Err(TrySendError::Full(_)) => true,
            Err(TrySendError::Closed(_)) => false,
        };
    }
}

/// The job as a line of JSON; a job that is gone has a line that says so.
fn line(key: &Key, core: &SchedulerCore) -> Bytes {
    let value = match &core.brief(key) {
        Some(view) => serde_json::to_string(view),
        None => serde_json::to_string(&serde_json::json!({"key": key.to_string(), "gone": true})),
    };
    // Views have only texts and numbers.
    Bytes::from(value.unwrap_or_default() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::JobSource,
        mesos::scheduler::core::{Event, Request, Settings, State},
        task::Job,
    };

    const KEY: &str = "www/devel/web";

    fn core() -> SchedulerCore {
        let source = JobSource {
            job: "name: web\ntask: {resources: {cpu: 1, ram: 1MiB, disk: 1MiB}, processes: []}",
            role: "www",
            ..JobSource::default()
        };
        let job = Job::read(&source).unwrap().0;
        let mut core = SchedulerCore::new(Settings::default(), State::default(), 0);
        core.handle(Event::Subscribed("f".to_owned()), 0);
        core.request(Request::Create(Box::new(job)), 0).0.unwrap();
        core
    }

    #[test]
    fn who_does_not_read_keeps_little_and_gets_the_newest_line_later() {
        let mut core = core();
        let mut watchers = Watchers::default();
        let key: Key = KEY.into();
        let mut lines = watchers.add(Arc::clone(&key), &core);
        for count in 2..100 {
            let request = Request::Scale(KEY.to_owned(), count);
            core.request(request, 0).0.unwrap();
            watchers.tell(&core, &[Arc::clone(&key)].into());
        }
        let mut kept = Vec::new();
        while let Ok(line) = lines.try_recv() {
            kept.push(line);
        }
        assert_eq!(kept.len(), WAITING);
        watchers.beat(&core);
        let last = lines.try_recv().unwrap();
        assert!(String::from_utf8_lossy(&last).contains("\"wanted\":99"));
        watchers.beat(&core);
        assert_eq!(lines.try_recv().unwrap(), Bytes::from_static(b"\n"));
        drop(lines);
        watchers.beat(&core);
        assert!(watchers.is_empty());
    }
}
