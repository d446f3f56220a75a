//! How far the repeated kills and questions about one task are.

/// Counts and times of what is repeated. Times are in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retries {
    pub(super) kills: u32,
    pub(super) next_kill: u64,
    pub(super) asks: u32,
    pub(super) next_ask: u64,
    /// No state of the task came since the last subscription.
    pub is_unconfirmed: bool,
}
