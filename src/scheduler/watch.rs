//! Who wants to know how a job goes on, line by line.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::core::{Core, Key};

struct Watcher {
    key: Key,
    last: Bytes,
    send: mpsc::UnboundedSender<Bytes>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Watchers(Vec<Watcher>);

impl Watchers {
    /// Another one; the first line is how the job is now.
    pub fn add(&mut self, key: Key, core: &Core) -> mpsc::UnboundedReceiver<Bytes> {
        let (send, receive) = mpsc::unbounded_channel();
        let last = line(&key, core);
        // The receiver is right here.
        let _ = send.send(last.clone());
        self.0.push(Watcher { key, last, send });
        receive
    }

    /// Tells those of the jobs that changed; whoever is gone, or whose job is, is forgotten.
    pub fn tell(&mut self, core: &Core, changed: &BTreeSet<Key>) {
        self.0.retain_mut(|watcher| {
            if watcher.send.is_closed() {
                return false;
            }
            if !changed.contains(&watcher.key) {
                return true;
            }
            let line = line(&watcher.key, core);
            let is_there = core.state().jobs.contains_key(&watcher.key);
            if line == watcher.last {
                return is_there;
            }
            watcher.last = line.clone();
            watcher.send.send(line).is_ok() && is_there
        });
    }
}

/// The job as a line of JSON; of one that is gone, that.
fn line(key: &Key, core: &Core) -> Bytes {
    let view = core.brief(key);
    let value = match &view {
        Some(view) => serde_json::to_string(view),
        None => serde_json::to_string(
            &serde_json::json!({"key": Arc::clone(key).to_string(), "gone": true}),
        ),
    };
    // Views have only texts and numbers.
    Bytes::from(value.unwrap_or_default() + "\n")
}
