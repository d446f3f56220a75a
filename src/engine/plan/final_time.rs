//! The part of a task's budget that is kept for final processes (`final_wait`).
//!
//! A budget that is smaller than `finalization_wait` (of a kill) is shared in the same proportion,
//! so that neither part gets all of it; of a larger one no more than `final_wait` is kept. Without
//! `final_wait` nothing is kept: what does not stop may use up the whole budget, as in Thermos.

use super::task::Plan;

impl Plan {
    /// How much of `budget_us` is kept for final processes.
    pub(super) fn kept_of(&self, budget_us: u64) -> u64 {
        let (whole, kept) = (u128::from(self.wait_us), u128::from(self.final_wait_us));
        let share = (u128::from(budget_us) * kept).checked_div(whole);
        // No more than a part of the budget, so it fits.
        share.unwrap_or_default().min(kept) as u64
    }

    /// When what still runs in CLEANING is killed, microseconds of CLOCK_BOOTTIME.
    pub(super) fn patience_ends(&self) -> u64 {
        self.deadline.saturating_sub(self.final_us)
    }

    /// A task that stops already has less time: `budget_us` from `at` on.
    pub(super) fn shorten(&mut self, at: u64, budget_us: u64) {
        let deadline = at.saturating_add(budget_us);
        if deadline < self.deadline {
            self.deadline = deadline;
            self.final_us = self.kept_of(budget_us).min(self.final_us);
        }
    }
}
