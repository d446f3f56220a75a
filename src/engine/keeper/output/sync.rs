//! Log files that are finished are made durable, by a thread of its own: it takes as long as the
//! disk takes.
//!
//! A disk that is slower than the output makes the pump wait in the end, and through a full pipe
//! the process: that is the price of output that is there after a crash of the machine.

use std::{
    cell::OnceCell,
    fs::File,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

/// How many files may wait for the thread.
const WAITING: usize = 64;

/// The thread that makes log files durable.
#[derive(Default)]
pub(crate) struct Syncer {
    /// Made for the first file; `None` when the thread cannot be started.
    files: OnceCell<Option<SyncSender<File>>>,
}

impl Syncer {
    /// Makes a file durable, soon.
    pub fn sync(&self, file: File) {
        if let Some(files) = self.files.get_or_init(start)
            && files.send(file).is_err()
        {
            tracing::error!("the thread that syncs log files is gone");
        }
    }
}

fn start() -> Option<SyncSender<File>> {
    let (send, receive) = sync_channel::<File>(WAITING);
    let started = thread::Builder::new()
        .name("log sync".to_owned())
        .stack_size(64 << 10)
        .spawn(move || {
            for file in receive {
                if let Err(error) = file.sync_data() {
                    tracing::warn!("syncing a log file: {error}");
                }
            }
        });
    match started {
        Ok(_) => Some(send),
        Err(error) => {
            tracing::warn!("log files are not synced: {error}");
            None
        }
    }
}
