//! What ends a single run: it is unhealthy, it takes too long, or a restart was asked for.
//!
//! A run that is unhealthy or takes too long is killed. A restart asks first (with the stop signal)
//! and kills when the time is over that the process has to stop.

use super::{
    facts::{Command, Decision, Note},
    member::{Ending, Member, Phase},
    task::Plan,
};

impl Plan {
    /// Ends runs that have to end, and notes runs that have gone on for too long.
    pub(super) fn intervene(&mut self, is_final: bool, now: u64, decision: &mut Decision) {
        for (process, member) in self.members.iter().enumerate() {
            if member.phase != Phase::Live || member.rules.is_final != is_final {
                continue;
            }
            let run = member.run;
            let key = (process, run);
            let is_late = times_out_at(member).is_some_and(|at| now >= at);
            if member.ending.is_none() && is_late && self.asked.timed_out.insert(key) {
                decision.notes.push(Note::TimeOut { process, run });
            }
            match member.ending {
                Some(Ending::Failed) if self.asked.killed.insert(key) => {
                    decision.commands.push(Command::KillRun { process, run });
                }
                Some(Ending::Restarted { .. }) => {
                    if self.asked.stopped.insert(key) {
                        decision.commands.push(Command::StopRun { process, run });
                    }
                    let is_over = self.stop_wait_ends(member).is_some_and(|at| now >= at);
                    if is_over && self.asked.killed.insert(key) {
                        decision.commands.push(Command::KillRun { process, run });
                    }
                }
                Some(Ending::Failed) | None => {}
            }
        }
    }

    /// When a run that was asked to stop for a restart is killed.
    fn stop_wait_ends(&self, member: &Member) -> Option<u64> {
        let Some(Ending::Restarted { at }) = member.ending else {
            return None;
        };
        let wait = member.rules.stop_us.unwrap_or(self.wait_us);
        Some(at.saturating_add(wait.min(self.wait_us)))
    }

    /// When the next run has to be ended, if nothing happens before.
    pub(super) fn intervene_at(&self, is_final: bool) -> Option<u64> {
        let numbered = self.members.iter().enumerate();
        numbered
            .filter(|(_, member)| member.phase == Phase::Live && member.rules.is_final == is_final)
            .filter_map(|(process, member)| {
                let key = (process, member.run);
                match member.ending {
                    None => times_out_at(member).filter(|_| !self.asked.timed_out.contains(&key)),
                    Some(_) => self
                        .stop_wait_ends(member)
                        .filter(|_| !self.asked.killed.contains(&key)),
                }
            })
            .min()
    }
}

/// When the run will have gone on for too long, microseconds of CLOCK_BOOTTIME.
pub(super) fn times_out_at(member: &Member) -> Option<u64> {
    Some(member.began_at.saturating_add(member.rules.timeout_us?))
}
