//! Processes that will never run: what they wait for cannot come, or their stage is over. And the
//! final processes that had no time.
//!
//! Answers for people and for the task's last record; nothing here changes a plan.

use super::{
    member::{Member, Phase},
    task::Plan,
};

impl Plan {
    /// For every process, whether it has never run and never will. A restart of another process
    /// may still change that while the task is ACTIVE.
    pub fn skipped(&self) -> Vec<bool> {
        let hopeless = self.hopeless();
        let all = self.members.iter().enumerate().zip(hopeless);
        all.map(|((process, member), is_hopeless)| {
            let is_cut_off = !member.phase.is_over() && !self.may_start(process);
            is_untried(member) && (member.past.skipped || is_hopeless || is_cut_off)
        })
        .collect()
    }

    /// The final processes that the task waits for and that could have run, had there been time.
    pub(super) fn without_time(&self) -> Vec<usize> {
        if self.is_complete(true) || self.is_deadlocked(true) {
            return Vec::new();
        }
        let hopeless = self.hopeless();
        let is_one = |member: &Member| {
            member.rules.is_final
                && !member.rules.ephemeral
                && !member.phase.is_over()
                && is_untried(member)
        };
        (0..self.members.len())
            .filter(|process| is_one(&self.members[*process]) && !hopeless[*process])
            .collect()
    }

    /// For every process, whether it waits, directly or through others, for a condition that cannot
    /// come true any more.
    fn hopeless(&self) -> Vec<bool> {
        let mut hopeless: Vec<bool> = self
            .members
            .iter()
            .map(|member| member.phase == Phase::Blocked && self.waits_in_vain(member))
            .collect();
        let found = |hopeless: &[bool]| -> Vec<usize> {
            let all = hopeless.iter().enumerate();
            all.filter_map(|(process, is_one)| is_one.then_some(process))
                .collect()
        };
        let mut next = found(&hopeless);
        while let Some(process) = next.pop() {
            for dependent in &self.members[process].rules.after {
                let member = &self.members[*dependent];
                let mut needs = member.needs.iter();
                let waits = member.phase == Phase::Blocked
                    && needs.any(|need| need.process == process && !need.met);
                if waits && !std::mem::replace(&mut hopeless[*dependent], true) {
                    next.push(*dependent);
                }
            }
        }
        hopeless
    }

    /// True when a process that is over has not met what `member` waits for.
    fn waits_in_vain(&self, member: &Member) -> bool {
        member.needs.iter().any(|need| {
            let other = &self.members[need.process];
            !need.met && other.phase.is_over() && !other.outlook().satisfies(need.until)
        })
    }
}

/// True when no run of the process was ever begun or asked for.
fn is_untried(member: &Member) -> bool {
    member.run == 0 && !matches!(member.phase, Phase::Asked | Phase::Live)
}
