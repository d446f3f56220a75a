//! What ends a single run: it was found unhealthy, it takes too long, somebody wants it anew.
//!
//! The first two are verdicts, and their runs are killed. A restart asks first (the stop signal) and
//! kills when the process' patience is over.

use super::{
    facts::{Command, Decision, Note},
    member::{Ending, Member, Phase},
    task::Plan,
};

impl Plan {
    /// Ends runs that have to end, and notes those that have become too old.
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
                    let is_over = self.patience_ends(member).is_some_and(|at| now >= at);
                    if is_over && self.asked.killed.insert(key) {
                        decision.commands.push(Command::KillRun { process, run });
                    }
                }
                Some(Ending::Failed) | None => {}
            }
        }
    }

    /// When a run that was asked to stop for a restart is killed.
    fn patience_ends(&self, member: &Member) -> Option<u64> {
        let Some(Ending::Restarted { at }) = member.ending else {
            return None;
        };
        let patience = member.rules.stop_us.unwrap_or(self.wait_us);
        Some(at.saturating_add(patience.min(self.wait_us)))
    }

    /// When the next run has to be ended although nothing happens.
    pub(super) fn intervene_at(&self, is_final: bool) -> Option<u64> {
        let numbered = self.members.iter().enumerate();
        numbered
            .filter(|(_, member)| member.phase == Phase::Live && member.rules.is_final == is_final)
            .filter_map(|(process, member)| {
                let key = (process, member.run);
                match member.ending {
                    None => times_out_at(member).filter(|_| !self.asked.timed_out.contains(&key)),
                    Some(_) => self
                        .patience_ends(member)
                        .filter(|_| !self.asked.killed.contains(&key)),
                }
            })
            .min()
    }
}

pub(super) fn times_out_at(member: &Member) -> Option<u64> {
    Some(member.began_at.saturating_add(member.rules.timeout_us?))
}
