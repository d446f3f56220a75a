//! When a stage is over, and the state that the task ends in.

use super::{
    member::{Member, Phase},
    state::TaskState,
    task::Plan,
};

impl Plan {
    /// Why the ACTIVE stage is over, if it is.
    pub(super) fn verdict(&self) -> Option<(TaskState, String)> {
        if let Some(kill) = &self.kill {
            let how = if kill.now { "killed at once" } else { "killed" };
            return Some((TaskState::Killed, how.to_owned()));
        }
        if let Some(reason) = &self.unhealthy {
            return Some((TaskState::Failed, reason.clone()));
        }
        let failed = self.failed_processes();
        if self.max_failures != 0 && failed >= self.max_failures {
            let limit = self.max_failures;
            return Some((
                TaskState::Failed,
                format!("{failed} failed process(es), max_failures is {limit}"),
            ));
        }
        if self.is_complete(false) {
            return Some((TaskState::Success, "all processes are done".to_owned()));
        }
        if self.is_deadlocked(false) {
            return Some((
                TaskState::Failed,
                "what is left waits for a process that failed".to_owned(),
            ));
        }
        None
    }

    /// The processes of a stage.
    pub(super) fn of(&self, is_final: bool) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(move |member| member.rules.is_final == is_final)
    }

    /// How many processes of a stage run or were asked to start.
    pub(super) fn running(&self, is_final: bool) -> u32 {
        let busy = |member: &&Member| matches!(member.phase, Phase::Asked | Phase::Live);
        self.of(is_final).filter(busy).count() as u32
    }

    fn failed_processes(&self) -> u32 {
        let failed = |member: &&Member| member.phase == Phase::Failed;
        self.of(false).filter(failed).count() as u32
    }

    /// True when every process of the stage that counts is over.
    pub(super) fn is_complete(&self, is_final: bool) -> bool {
        self.of(is_final)
            .all(|member| member.rules.ephemeral || member.phase.is_over())
    }

    /// True when a process that counts is not over, and none that counts can start or end any more:
    /// neither by itself nor because of an ephemeral process that it waits for.
    pub(super) fn is_deadlocked(&self, is_final: bool) -> bool {
        !self.is_complete(is_final)
            && !self
                .of(is_final)
                .any(|member| !member.rules.ephemeral && member.phase.is_open())
            && !self.is_something_open(is_final)
    }

    /// True when a blocked process that counts waits, directly or through others, for a process
    /// that can still start or end.
    fn is_something_open(&self, is_final: bool) -> bool {
        let counts = |index: &usize| {
            let member = &self.members[*index];
            member.rules.is_final == is_final
                && !member.rules.ephemeral
                && member.phase == Phase::Blocked
        };
        let mut seen = vec![false; self.members.len()];
        let mut open: Vec<usize> = (0..self.members.len()).filter(counts).collect();
        while let Some(index) = open.pop() {
            for need in self.members[index].needs.iter().filter(|need| !need.met) {
                let other = &self.members[need.process];
                if other.phase.is_open() {
                    return true;
                }
                let is_blocked = other.phase == Phase::Blocked;
                if is_blocked && !std::mem::replace(&mut seen[need.process], true) {
                    open.push(need.process);
                }
            }
        }
        false
    }
}
