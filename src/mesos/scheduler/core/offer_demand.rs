//! Whether offers are wanted: they are asked for when something new waits, and suppressed when
//! nothing does.

use super::{decision::Call, settings::Settings};

/// What was asked of the master about offers.
#[derive(Debug, Default)]
pub(super) struct OfferDemand {
    /// An instance waits that has not been offered anything yet.
    has_new: bool,
    /// The master was asked to send no offers.
    is_suppressed: bool,
    /// An offer came since the subscription: the agents are known.
    has_seen_offers: bool,
    /// When offers were last asked for.
    revived_at: Option<u64>,
}

impl OfferDemand {
    /// A subscription begins, with which the master sends offers; `waits`: some instance waits for
    /// one.
    pub(super) fn subscribed(&mut self, waits: bool) {
        self.is_suppressed = false;
        self.has_seen_offers = false;
        self.has_new |= waits;
        self.revived_at = None;
    }

    /// The master has sent offers.
    pub(super) fn offered(&mut self) {
        self.has_seen_offers = true;
    }

    /// Something new waits.
    pub(super) fn wants(&mut self) {
        self.has_new = true;
    }

    /// What is to be asked of the master now, and when to look again. `waits`: some instance waits.
    pub(super) fn next(
        &mut self,
        waits: bool,
        now: u64,
        settings: &Settings,
    ) -> (Option<Call>, Option<u64>) {
        if !waits {
            self.has_new = false;
            if !self.is_suppressed && self.has_seen_offers {
                self.is_suppressed = true;
                return (Some(Call::Suppress), None);
            }
            return (None, None);
        }
        let since = |pause: u64| self.revived_at.map(|at| at + pause);
        let is_stale = since(settings.revive_again_ms).is_some_and(|again| again <= now);
        if !self.has_new && !is_stale {
            return (None, None);
        }
        let next = since(settings.revive_gap_ms).unwrap_or(0);
        if now < next {
            return (None, Some(next));
        }
        self.has_new = false;
        self.is_suppressed = false;
        self.revived_at = Some(now);
        // Calls get lost, and agents come back.
        (Some(Call::Revive), Some(now + settings.revive_again_ms))
    }
}
