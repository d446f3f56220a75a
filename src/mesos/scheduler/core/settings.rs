//! The settings of the core, which an operator may change.

use super::{amounts::Amounts, state::Flapping};

/// The times are in milliseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What an executor uses besides its task.
    pub overhead: Amounts,
    /// How long declined resources are not offered again while an instance waits.
    pub refuse_ms: u64,
    /// How long they are not offered again when no instance waits; offers are suppressed then as
    /// well.
    pub idle_refuse_ms: u64,
    /// The shortest pause between two calls for offers.
    pub revive_gap_ms: u64,
    /// The pause after which offers are asked for again, while an instance waits and gets none.
    pub revive_again_ms: u64,
    /// The pauses after short runs.
    pub flapping: Flapping,
    /// How long an instance that failed on an agent waits for another one, if there is one.
    pub other_agents_ms: u64,
    /// After how long a task that the master does not know counts as lost, unless its job's own
    /// delay is longer. A master that has just started does not know the agents yet.
    pub unknown_ms: u64,
    /// How long a task may be without any state before the master is asked for it. The pause
    /// doubles with every question.
    pub ask_ms: u64,
    /// The pause after which a kill is repeated; it doubles every time.
    pub kill_ms: u64,
    /// The longest pause between two questions or kills.
    pub longest_ms: u64,
    /// How often the master is asked for the states of all tasks.
    pub reconcile_ms: u64,
    /// After how long a task that was replaced and never came back is forgotten.
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
