//! What an operator may set.

use super::{amounts::Amounts, state::Flapping};

/// Times in milliseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What an executor uses beside its task.
    pub overhead: Amounts,
    /// What is not used of an offer is not wanted again for so long, while something waits.
    pub refuse_ms: u64,
    /// The same when nothing waits; then offers are suppressed as well.
    pub idle_refuse_ms: u64,
    /// Offers are asked for at most this often.
    pub revive_gap_ms: u64,
    /// While something waits and nothing is offered they are asked for again after so long.
    pub revive_again_ms: u64,
    /// Pauses after short runs.
    pub flapping: Flapping,
    /// An instance that failed somewhere waits so long for another agent, if there is one.
    pub other_agents_ms: u64,
    /// A task that a master does not know (it may have restarted, and the agent not be back) counts as
    /// lost after so long, or after its job's own delay if that is longer.
    pub unknown_ms: u64,
    /// A task of which nothing was heard is asked for after so long; then after twice that.
    pub ask_ms: u64,
    /// A kill is repeated after so long; then after twice that.
    pub kill_ms: u64,
    /// The longest pause between two questions or kills.
    pub longest_ms: u64,
    /// Everything is asked for this often.
    pub reconcile_ms: u64,
    /// A task that was replaced and never came back is forgotten after so long.
    pub forget_ms: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            overhead: Amounts::of([50, 32_000, 0, 0]),
            refuse_ms: 5_000,
            idle_refuse_ms: 3_600_000,
            revive_gap_ms: 250,
            revive_again_ms: 30_000,
            flapping: Flapping {
                initial_ms: 1_000,
                max_ms: 300_000,
                stable_ms: 300_000,
            },
            other_agents_ms: 3_000,
            unknown_ms: 60_000,
            ask_ms: 5_000,
            kill_ms: 10_000,
            longest_ms: 60_000,
            reconcile_ms: 600_000,
            forget_ms: 86_400_000,
        }
    }
}
