//! Adding to the batch that goes to the keeper next: notes for journals, orders for the keeper.

use crate::{
    journal::{Kind, Record, Snapshot},
    protocols::dewar::{link as wire, link::command::Kind as Order},
    sys::clock::now,
};

/// Adds a record for the journal of `task`.
pub(super) fn note(task: u32, record: Record, batch: &mut wire::Batch) {
    batch.notes.push(wire::Numbered {
        seq: 0,
        record: Some(record),
        task,
    });
}

/// Adds an order about `task`.
pub(super) fn order(task: u32, what: Order, batch: &mut wire::Batch) {
    batch.commands.push(wire::Command {
        kind: Some(what),
        task,
    });
}

/// The order that puts a snapshot in the place of old records.
pub(super) fn compaction(snapshot: Snapshot) -> Order {
    Order::Compact(wire::Compact {
        snapshot: Some(Record::new(now(), Kind::Snapshot(snapshot))),
    })
}
