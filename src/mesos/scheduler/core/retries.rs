//! What is done again until it has worked: one kind of retries each.

/// How far these are with one task.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retries {
    pub(super) kills: u32,
    pub(super) next_kill: u64,
    pub(super) asks: u32,
    pub(super) next_ask: u64,
    /// Nothing was heard of it since the last subscription.
    pub is_unconfirmed: bool,
}
