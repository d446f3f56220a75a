//! When a journal has grown enough to be worth a compaction. Pure: it counts records.

/// A journal with fewer records than this is left alone.
const SMALL: usize = 4096;

/// How a journal grows. It is due for a compaction when it has twice as many records as the last
/// compaction left, so that all compactions together cost no more than the records that were
/// written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    records: usize,
    limit: usize,
}

impl Growth {
    /// A journal that holds this many records.
    pub fn of(records: usize) -> Growth {
        Growth {
            records,
            limit: SMALL,
        }
    }

    /// Counts one more record.
    pub fn add(&mut self) {
        self.records += 1;
    }

    /// True when it is time for a compaction.
    pub fn is_due(self) -> bool {
        self.records >= self.limit
    }

    /// No compaction can be made: it is not due again.
    pub fn give_up(&mut self) {
        self.limit = usize::MAX;
    }

    /// A compaction left this many records, or is about to.
    pub fn compacted(&mut self, records: usize) {
        self.records = records;
        self.limit = (2 * records).max(SMALL);
    }
}
