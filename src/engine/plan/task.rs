//! The plan of one task: facts in, decisions out.
//!
//! Two sub-plans share one set of rules: the regular processes (ACTIVE) and the final ones
//! (FINALIZING). What a stage change decided (outcome, budget) travels in its note, so facts that
//! race with the note cannot change it: a replay in journal order and the runner that sent the
//! note agree.

use std::collections::{BTreeSet, HashMap};

use super::{
    backoff::Backoff,
    facts::{Command, Decision, Fact, Note},
    member::{Ending, Member, Need, Past, Phase, Rules, Totals, Until},
    state::{Exit, TaskState},
};
use crate::task::Task;

/// A request that the task end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kill {
    pub(super) now: bool,
    pub(super) budget_us: Option<u64>,
}

/// The commands that the keeper was already given in this stage; a new runner gives them again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) stop: bool,
    pub(super) kill: bool,
    pub(super) close: bool,
    pub(super) killed_runs: BTreeSet<usize>,
    /// Runs of which was noted that they take too long.
    pub(super) timed_out: BTreeSet<(usize, u32)>,
    /// Runs that were asked to stop, one by one.
    pub(super) stopped: BTreeSet<(usize, u32)>,
    /// Runs that were killed, one by one.
    pub(super) killed: BTreeSet<(usize, u32)>,
    /// The processes that have not stopped were named.
    pub(super) lingering: bool,
    /// How many requests to end were made over HTTP.
    pub(super) posts: u32,
    /// Until when the last request has time, microseconds of CLOCK_BOOTTIME.
    pub(super) post_until: u64,
    /// When signals were sent, if requests over HTTP came before them.
    pub(super) stopped_at: Option<u64>,
}

/// The plan of one task, with every fact that it was told.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) members: Vec<Member>,
    pub(super) max_failures: u32,
    pub(super) max_concurrency: u32,
    pub(super) wait_us: u64,
    /// How much of `wait_us` is kept for final processes; 0 when there are none.
    pub(super) final_wait_us: u64,
    /// How long each of the two requests to end has, if the task has a lifecycle.
    pub(super) post_us: Option<[u64; 2]>,
    pub(super) state: Option<TaskState>,
    pub(super) outcome: TaskState,
    pub(super) entered_at: u64,
    pub(super) deadline: u64,
    /// How much of the present budget is kept for final processes, microseconds.
    pub(super) final_us: u64,
    pub(super) kill: Option<Kill>,
    /// Why the task as a whole must not go on.
    pub(super) unhealthy: Option<String>,
    pub(super) ready: BTreeSet<usize>,
    pub(super) pausing: BTreeSet<(u64, usize)>,
    /// No process of the task is alive, and none was started since the keeper reported that.
    pub(super) empty: bool,
    pub(super) asked: Asked,
}

impl Plan {
    /// The plan of `task`, which has been validated, before any fact. `seed` makes the random part
    /// of its pauses differ from other tasks'; every replay must have the same one.
    pub fn new(task: &Task, seed: u64) -> Plan {
        let numbered = task.processes.iter().enumerate();
        let index: HashMap<&str, usize> = numbered.map(|(i, p)| (p.name.as_str(), i)).collect();
        let mut needs: Vec<Vec<Need>> = vec![Vec::new(); task.processes.len()];
        let mut after = vec![BTreeSet::new(); task.processes.len()];
        let mut add = |process: usize, dependent: usize, until: Until| {
            let need = Need {
                process,
                until,
                met: false,
            };
            if !needs[dependent].contains(&need) {
                needs[dependent].push(need);
            }
            after[process].insert(dependent);
        };
        for constraint in &task.constraints {
            let names = constraint.order.iter();
            let order: Vec<usize> = names
                .filter_map(|name| index.get(name.as_str()).copied())
                .collect();
            for pair in order.windows(2) {
                add(pair[0], pair[1], Until::Finished);
            }
        }
        for (dependent, process) in task.processes.iter().enumerate() {
            for (name, condition) in &process.after {
                if let Some(process) = index.get(name.as_str()) {
                    add(*process, dependent, Until::Holds(*condition));
                }
            }
        }
        let members: Vec<Member> = task
            .processes
            .iter()
            .enumerate()
            .zip(needs)
            .zip(after)
            .map(|(((index, process), mut needs), after)| {
                needs.shrink_to_fit();
                let rules = Rules {
                    is_final: process.is_final,
                    daemon: process.daemon,
                    ephemeral: process.ephemeral,
                    max_failures: process.max_failures,
                    max_runs: process.max_runs,
                    backoff: Backoff::of(process, index, seed),
                    stop_us: process.stop_timeout.map(|period| period.as_micros()),
                    timeout_us: process.timeout.map(|period| period.as_micros()),
                    after: after.into_iter().collect(),
                };
                Member::new(rules, needs)
            })
            .collect();
        let ready = (0..members.len())
            .filter(|index| members[*index].phase == Phase::Ready)
            .collect();
        Plan {
            members,
            max_failures: task.max_failures,
            max_concurrency: task.max_concurrency,
            wait_us: task.finalization_wait.as_micros(),
            final_wait_us: final_wait_us(task),
            post_us: task.lifecycle.as_ref().map(|lifecycle| {
                let waits = [lifecycle.graceful_shutdown_wait, lifecycle.shutdown_wait];
                waits.map(|wait| wait.as_micros())
            }),
            state: None,
            outcome: TaskState::Success,
            entered_at: 0,
            deadline: 0,
            final_us: 0,
            kill: None,
            unhealthy: None,
            ready,
            pausing: BTreeSet::new(),
            empty: false,
            asked: Asked::default(),
        }
    }

    /// The task's state; `None` before ACTIVE is recorded.
    pub fn state(&self) -> Option<TaskState> {
        self.state
    }

    /// When everything that runs will be killed, while the task is stopping.
    pub fn deadline(&self) -> Option<u64> {
        match self.state {
            Some(TaskState::Cleaning) => Some(self.patience_ends()),
            Some(TaskState::Finalizing) => Some(self.deadline),
            _ => None,
        }
    }

    /// How the ended runs of a process ended.
    pub fn totals(&self, process: usize) -> Totals {
        self.members[process].past.totals
    }

    /// The result of the ended runs of a process.
    pub fn past(&self, process: usize) -> Past {
        self.members[process].past
    }

    /// The runs that have begun and not ended, by process and number.
    pub fn live(&self) -> Vec<(usize, u32)> {
        let numbered = self.members.iter().enumerate();
        numbered
            .filter(|(_, member)| member.phase == Phase::Live)
            .map(|(process, member)| (process, member.run))
            .collect()
    }

    /// The runs that have become their programs and not ended, by process and number, each with
    /// the moment of that (microseconds of CLOCK_BOOTTIME).
    pub fn begun(&self) -> Vec<(usize, u32, u64)> {
        let numbered = self.members.iter().enumerate();
        numbered
            .filter(|(_, member)| member.phase == Phase::Live && member.run_has_begun)
            .map(|(process, member)| (process, member.run, member.began_at))
            .collect()
    }

    /// True when this run is the present one and was found healthy.
    pub fn was_healthy(&self, process: usize, run: u32) -> bool {
        let member = &self.members[process];
        member.run == run && member.run_was_healthy
    }

    /// True when the process may still start (again) in this task.
    pub fn may_start(&self, process: usize) -> bool {
        let member = &self.members[process];
        match self.state {
            Some(state) if state.is_terminal() => false,
            Some(TaskState::Finalizing | TaskState::Cleaning) if !member.rules.is_final => false,
            _ => !member.phase.is_over(),
        }
    }

    /// The predecessors that a process still waits for.
    pub fn waiting_for(&self, process: usize) -> impl Iterator<Item = usize> + '_ {
        let needs = self.members[process].needs.iter();
        needs.filter(|need| !need.met).map(|need| need.process)
    }

    /// Takes in a fact that happened at `at` (microseconds of CLOCK_BOOTTIME). A fact about an
    /// unknown process, or about a run that is not the present one, is ignored.
    pub fn apply(&mut self, fact: &Fact, at: u64) {
        match fact {
            Fact::Started { process, run } => self.started(*process, *run, at),
            Fact::Executed { process, run } => {
                if let Some(member) = self.live_run(*process, *run) {
                    member.past.started = true;
                    member.run_has_begun = true;
                    // The time that the start record took to reach the disk is not the run's.
                    member.began_at = at;
                    self.tell_dependents(*process);
                }
            }
            Fact::Checked {
                process,
                run,
                healthy,
            } => {
                if let Some(member) = self.live_run(*process, *run) {
                    member.past.healthy |= healthy;
                    member.run_was_healthy |= healthy;
                    if !healthy {
                        member.ending.get_or_insert(Ending::Failed);
                    }
                    self.tell_dependents(*process);
                }
            }
            Fact::TimedOut { process, run } => {
                if let Some(member) = self.live_run(*process, *run) {
                    member.ending.get_or_insert(Ending::Failed);
                }
            }
            Fact::RestartRequested { process } => self.restart_requested(*process, at),
            Fact::Unfit(reason) => self.unhealthy = Some(reason.clone()),
            Fact::Ended { process, run, exit } => self.ended(*process, *run, *exit, at),
            Fact::Dropped { process, past } => {
                if let Some(member) = self.members.get_mut(*process) {
                    member.past = *past;
                    member.run = past.totals.runs();
                    if past.skipped {
                        self.set_phase(*process, Phase::Finished);
                    }
                    self.tell_dependents(*process);
                }
            }
            Fact::Entered {
                state,
                outcome,
                budget_us,
                final_us,
            } => self.entered(*state, *outcome, (*budget_us, *final_us), at),
            Fact::KillRequested { now, budget_us } => self.kill_requested(*now, *budget_us, at),
            Fact::Rebooted => self.rebooted(at),
        }
    }

    /// The keeper says that no process of the task is left.
    pub fn note_empty(&mut self) {
        self.empty = true;
    }

    /// The notes and commands that are due at `now` (microseconds of CLOCK_BOOTTIME).
    pub fn decide(&mut self, now: u64) -> Decision {
        let mut decision = Decision::default();
        while self.advance(now, &mut decision) {}
        decision.wake_at = self.wake_at(now);
        decision
    }

    fn started(&mut self, process: usize, run: u32, at: u64) {
        let Some(member) = self.members.get_mut(process) else {
            return;
        };
        if run == member.run && !member.phase.is_over() && member.phase != Phase::Live {
            member.began_at = at;
            self.set_phase(process, Phase::Live);
            self.empty = false;
        }
    }

    /// The process, if this is its present run.
    fn live_run(&mut self, process: usize, run: u32) -> Option<&mut Member> {
        let member = self.members.get_mut(process)?;
        (member.run == run && member.phase == Phase::Live).then_some(member)
    }

    fn ended(&mut self, process: usize, run: u32, exit: Exit, at: u64) {
        let Some(member) = self.members.get_mut(process) else {
            return;
        };
        if run != member.run || member.phase != Phase::Live {
            return;
        }
        let next = member.ended(exit.state(), at);
        self.set_phase(process, next);
        self.tell_dependents(process);
    }

    fn restart_requested(&mut self, process: usize, at: u64) {
        if process >= self.members.len() || self.refuses_restart(process).is_some() {
            return;
        }
        let member = &mut self.members[process];
        match member.phase {
            Phase::Live => member.ending = Some(Ending::Restarted { at }),
            Phase::Asked => member.forgive(),
            _ => {
                member.forgive();
                self.set_phase(process, Phase::Ready);
            }
        }
    }

    /// A condition of `process` that others may wait for may have come true. A process that waits
    /// for a condition that cannot come true any more is skipped, and others may wait for that in
    /// turn.
    fn tell_dependents(&mut self, process: usize) {
        let mut changed = vec![process];
        while let Some(process) = changed.pop() {
            for dependent in self.members[process].rules.after.clone() {
                let other = self.members[process].outlook();
                let member = &mut self.members[dependent];
                let mut is_skipped = false;
                for need in &mut member.needs {
                    if need.process == process && !need.met {
                        need.met = other.satisfies(need.until);
                        is_skipped |= other.rules_out(need.until);
                    }
                }
                if member.phase != Phase::Blocked {
                    continue;
                }
                if is_skipped {
                    member.past.skipped = true;
                    self.set_phase(dependent, Phase::Finished);
                    changed.push(dependent);
                } else if member.needs.iter().all(|need| need.met) {
                    self.set_phase(dependent, Phase::Ready);
                }
            }
        }
    }

    fn entered(
        &mut self,
        state: TaskState,
        outcome: TaskState,
        (budget_us, final_us): (u64, u64),
        at: u64,
    ) {
        self.state = Some(state);
        self.outcome = outcome;
        self.asked = Asked::default();
        if state == TaskState::Cleaning {
            self.entered_at = at;
            self.deadline = at.saturating_add(budget_us);
            self.final_us = final_us;
        }
        if state.is_terminal() {
            self.outcome = state;
        }
    }

    fn kill_requested(&mut self, now: bool, budget_us: Option<u64>, at: u64) {
        let before = self.kill.take();
        self.kill = Some(Kill {
            now: now || before.as_ref().is_some_and(|kill| kill.now),
            budget_us: budget_us.or(before.and_then(|kill| kill.budget_us)),
        });
        // While the task already stops, only an impatient request changes anything.
        if matches!(
            self.state,
            Some(TaskState::Cleaning | TaskState::Finalizing)
        ) {
            if let Some(budget) = budget_us {
                self.shorten(at, budget);
            }
            if now {
                self.deadline = at;
                self.outcome = TaskState::Killed;
            }
        }
    }

    fn rebooted(&mut self, at: u64) {
        let budget = self.deadline.saturating_sub(self.entered_at);
        self.entered_at = at;
        self.deadline = at.saturating_add(budget);
        for (_, process) in std::mem::take(&mut self.pausing) {
            let pausing = self.members[process].pausing_from(at);
            self.set_phase(process, pausing);
        }
    }

    fn set_phase(&mut self, process: usize, phase: Phase) {
        let member = &mut self.members[process];
        match member.phase {
            Phase::Ready => {
                self.ready.remove(&process);
            }
            Phase::Pausing(until) => {
                self.pausing.remove(&(until, process));
            }
            _ => {}
        }
        member.phase = phase;
        member.past.finished |= phase == Phase::Finished;
        match phase {
            Phase::Ready => {
                self.ready.insert(process);
            }
            Phase::Pausing(until) => {
                self.pausing.insert((until, process));
            }
            _ => {}
        }
    }

    /// One step; true when the state changed and there may be more to do.
    fn advance(&mut self, now: u64, decision: &mut Decision) -> bool {
        match self.state {
            None => {
                self.enter(TaskState::Active, String::new(), now, decision);
                true
            }
            Some(TaskState::Active) => match self.verdict() {
                Some((outcome, reason)) => {
                    self.outcome = outcome;
                    self.enter(TaskState::Cleaning, reason, now, decision);
                    true
                }
                None => {
                    self.intervene(false, now, decision);
                    self.schedule(false, now, decision);
                    false
                }
            },
            Some(TaskState::Cleaning) => self.clean(now, decision),
            Some(TaskState::Finalizing) => {
                let over = self.is_complete(true) || self.is_deadlocked(true);
                if over || now >= self.deadline {
                    return self.finish(now, decision);
                }
                self.intervene(true, now, decision);
                self.schedule(true, now, decision);
                false
            }
            Some(_) => {
                if !std::mem::replace(&mut self.asked.close, true) {
                    decision.commands.push(Command::Close);
                }
                false
            }
        }
    }

    pub(super) fn enter(
        &mut self,
        state: TaskState,
        reason: String,
        now: u64,
        decision: &mut Decision,
    ) {
        let budget_us = match (&self.kill, state) {
            (Some(Kill { now: true, .. }), TaskState::Cleaning) => 0,
            (Some(kill), TaskState::Cleaning) => kill.budget_us.unwrap_or(self.wait_us),
            (None, TaskState::Cleaning) => self.wait_us,
            _ => 0,
        };
        let final_us = self.kept_of(budget_us);
        let without_time = match state.is_terminal() {
            true => self.without_time(),
            false => Vec::new(),
        };
        let outcome = self.outcome;
        self.entered(state, outcome, (budget_us, final_us), now);
        decision.notes.push(Note::Enter {
            state,
            outcome,
            budget_us,
            final_us,
            reason,
            without_time,
        });
    }

    fn schedule(&mut self, is_final: bool, now: u64, decision: &mut Decision) {
        while let Some(&(until, process)) = self.pausing.first() {
            if until > now {
                break;
            }
            self.set_phase(process, Phase::Ready);
        }
        let mut room = match self.max_concurrency {
            0 => u32::MAX,
            limit => limit.saturating_sub(self.running(is_final)),
        };
        let candidates: Vec<usize> = self.ready.iter().copied().collect();
        for process in candidates {
            if room == 0 {
                break;
            }
            if self.members[process].rules.is_final == is_final {
                self.set_phase(process, Phase::Asked);
                self.empty = false;
                room -= 1;
                let run = self.members[process].run;
                decision.commands.push(Command::Start { process, run });
            }
        }
    }

    /// True when the task was asked to end over HTTP and was sent no signals yet.
    fn is_asked_over_http(&self) -> bool {
        self.asked.posts > 0 && !self.asked.stop
    }

    fn wake_at(&self, now: u64) -> Option<u64> {
        match self.state? {
            TaskState::Active => {
                // Processes that wait for room start when a run ends, not at a time.
                let next = self.pausing.first().map(|(until, _)| *until);
                let next = next.filter(|until| *until > now);
                next.into_iter().chain(self.intervene_at(false)).min()
            }
            // The next request to end, or the signals, come before all other deadlines.
            TaskState::Cleaning if now < self.patience_ends() && self.is_asked_over_http() => {
                Some(self.asked.post_until.min(self.patience_ends()))
            }
            TaskState::Cleaning if now < self.patience_ends() => (0..self.members.len())
                .filter(|process| !self.asked.killed_runs.contains(process))
                .filter_map(|process| self.stop_deadline(process))
                .chain(self.name_lingering_at())
                .chain([self.patience_ends()])
                .min(),
            TaskState::Cleaning if now < self.deadline => Some(self.deadline),
            TaskState::Finalizing if now < self.deadline => {
                let pausing = self.pausing.iter().find(|(_, process)| {
                    let rules = &self.members[*process].rules;
                    rules.is_final
                });
                pausing
                    .map(|(until, _)| *until)
                    .into_iter()
                    .chain(self.intervene_at(true))
                    .chain([self.deadline])
                    .min()
            }
            _ => None,
        }
    }
}

/// How much of its `finalization_wait` a task keeps for its final processes, microseconds.
fn final_wait_us(task: &Task) -> u64 {
    let has_final = task.processes.iter().any(|process| process.is_final);
    let kept = task.final_wait.filter(|_| has_final);
    kept.map_or(0, |wait| wait.as_micros())
        .min(task.finalization_wait.as_micros())
}
