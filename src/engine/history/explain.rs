//! Why a process is in its state: which condition, limit, back-off or failure, with times.
//!
//! Pure: a replayed task, its status and the present moment in, sentences out.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    in_words::InWords,
    replay::Model,
    status::{ProcessState, ProcessStatus, RunStatus, TaskStatus},
    wall_time::WallTime,
};
use crate::{
    engine::plan::{Dependency, Ending, Situation, TaskState},
    sys::clock::Moment,
    task::{Condition, Period, Process},
};

/// Why a process is in its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Explanation {
    /// The id of the task.
    pub task_id: String,
    /// The name of the process.
    pub name: String,
    /// The state of the process, as `status` shows it.
    pub state: ProcessState,
    /// True when no run of it is to come although it is WAITING; absent otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// The state of the process for people.
    #[serde(skip)]
    pub in_words: InWords,
    /// The main reason, in one sentence.
    pub why: String,
    /// More facts, the most important ones first.
    pub facts: Vec<String>,
}

/// Explains the process at `index`, at the moment `now`.
pub fn explain(model: &Model, status: &TaskStatus, index: usize, now: Moment) -> Explanation {
    let about = About {
        model,
        status,
        process: &status.processes[index],
        rules: &model.task.processes[index],
        index,
        now,
    };
    let mut facts = Vec::new();
    let why = about.why(&mut facts);
    about.limits(&mut facts);
    about.needs(&mut facts);
    about.last_runs(&mut facts);
    about.notices(&mut facts);
    Explanation {
        task_id: status.task_id.clone(),
        name: about.process.name.clone(),
        state: about.process.state,
        skipped: about.process.skipped,
        in_words: about.process.in_words(),
        why,
        facts,
    }
}

struct About<'a> {
    model: &'a Model,
    status: &'a TaskStatus,
    process: &'a ProcessStatus,
    rules: &'a Process,
    index: usize,
    now: Moment,
}

impl About<'_> {
    fn why(&self, facts: &mut Vec<String>) -> String {
        let plan = &self.model.plan;
        let situation = plan.situation(self.index);
        let is_over = plan.state().is_some_and(|state| state.is_terminal());
        match situation {
            Situation::Live {
                times_out_at,
                ending,
            } => self.running(times_out_at, ending),
            Situation::Finished => format!("done: {}", self.last_end()),
            Situation::Skipped => format!("skipped: it waited for {}", self.unmet()),
            Situation::GaveUp { by_failures } => {
                let (failures, runs) = plan.counts(self.index);
                let limit = match by_failures {
                    true => format!(
                        "{failures} failed runs reach max_failures {}",
                        self.rules.max_failures
                    ),
                    false => format!(
                        "{runs} runs without success reach max_runs {}",
                        self.rules.max_runs
                    ),
                };
                format!(
                    "failed for good: {limit}; the last one: {}",
                    self.last_end()
                )
            }
            _ if is_over || !plan.may_start(self.index) => {
                let what = match self.process.runs.last() {
                    Some(_) => format!("not run again: {}", self.task_state()),
                    None => format!("skipped, never started: {}", self.task_state()),
                };
                if situation == Situation::Blocked {
                    facts.push(format!("it waited for {}", self.unmet()));
                }
                what
            }
            Situation::Blocked if self.process.skipped => {
                format!("waits for {}: in vain, so it is skipped", self.unmet())
            }
            Situation::Blocked => format!("waits for {}", self.unmet()),
            Situation::Ready { .. } if self.rules.is_final && !self.is_finalizing() => {
                "final: it starts when everything else is over".to_owned()
            }
            Situation::Ready { running } => format!(
                "waits for room: {running} processes run and max_concurrency is {}",
                self.model.task.max_concurrency
            ),
            Situation::Pausing { until, streak } => {
                self.pause(streak, facts);
                format!(
                    "pauses until {} ({}) after {}",
                    WallTime::of_boot_time(until, self.now),
                    self.distance(until),
                    self.last_end()
                )
            }
            Situation::Starting => "is being started".to_owned(),
        }
    }

    fn running(&self, times_out_at: Option<u64>, ending: Option<Ending>) -> String {
        let Some(run) = self.process.runs.last() else {
            return "is being started".to_owned();
        };
        let pid = run
            .pid
            .map_or_else(String::new, |pid| format!(", pid {pid}"));
        let since = run.began_at().map_or_else(String::new, |at| at.to_string());
        let mut text = format!("runs since {since}: run {}{pid}", run.run);
        match (ending, times_out_at) {
            (Some(Ending::Restarted { .. }), _) => {
                text += "; it was asked to stop for a restart";
            }
            (Some(Ending::Failed), _) => {
                let why = run.reason.as_deref().unwrap_or("it failed");
                text += &format!("; it is being killed: {why}");
            }
            (None, Some(at)) => text += &format!("; its time is over {}", self.distance(at)),
            (None, None) => {}
        }
        text
    }

    fn is_finalizing(&self) -> bool {
        self.status.state == TaskState::Finalizing
    }

    /// The state of the task, since when, and why.
    fn task_state(&self) -> String {
        let reason = self
            .status
            .why()
            .map_or_else(String::new, |reason| format!(" ({reason})"));
        match self.status.states.last() {
            Some(state) => format!("the task is {} since {}{reason}", state.state, state.at),
            None => "the task has not begun".to_owned(),
        }
    }

    /// The conditions that are not true yet, each with the other process' state.
    fn unmet(&self) -> String {
        let needs = self.model.plan.dependencies(self.index);
        let unmet: Vec<String> = needs
            .filter(|need| !need.is_met)
            .map(|need| self.need(need))
            .collect();
        unmet.join("; and ")
    }

    fn need(&self, need: Dependency) -> String {
        let other = &self.status.processes[need.process];
        let what = match need.condition {
            None => "to finish",
            Some(Condition::Started) => "to start",
            Some(Condition::Healthy) => "to be healthy",
            Some(Condition::Succeeded) => "to succeed",
            Some(Condition::Completed) => "to be over",
            Some(Condition::Failed) => "to fail",
        };
        let stands = match self.model.plan.situation(need.process) {
            Situation::Skipped => "it was skipped".to_owned(),
            Situation::GaveUp { .. } => "it failed for good".to_owned(),
            _ => format!("it is {}", other.in_words()),
        };
        format!("{} {what} ({stands})", other.name)
    }

    fn needs(&self, facts: &mut Vec<String>) {
        let met: Vec<String> = self
            .model
            .plan
            .dependencies(self.index)
            .filter(|need| need.is_met)
            .map(|need| self.status.processes[need.process].name.clone())
            .collect();
        if !met.is_empty() {
            facts.push(format!("does not wait any more for {}", met.join(", ")));
        }
    }

    fn limits(&self, facts: &mut Vec<String>) {
        let (failures, runs) = self.model.plan.counts(self.index);
        if runs == 0 {
            return;
        }
        let of = |count: u32, limit: u32| match limit {
            0 => format!("{count} (no limit)"),
            limit => format!("{count} of {limit}"),
        };
        facts.push(format!(
            "failed runs that count: {}; runs without success: {}",
            of(failures, self.rules.max_failures),
            of(runs, self.rules.max_runs)
        ));
        if runs > failures {
            facts.push(
                "a run that a signal ended (KILLED) or whose exit code was not learnt (LOST) is no failed run; max_runs bounds them"
                    .to_owned(),
            );
        }
    }

    fn pause(&self, streak: u32, facts: &mut Vec<String>) {
        facts.push(match &self.rules.backoff {
            None => format!("min_duration is {}, the pause after every run", self.rules.min_duration),
            Some(backoff) => format!(
                "back-off: {streak} runs in a row neither successful nor longer than {}; the pause is {} times {} to the power of {}, at most {}, and up to {:.0} % more",
                backoff.reset_after,
                self.rules.min_duration,
                backoff.factor,
                streak.saturating_sub(1),
                backoff.max,
                backoff.jitter * 100.0
            ),
        });
    }

    fn last_end(&self) -> String {
        let runs = self.process.runs.iter().rev();
        let ended = runs.filter(|run| run.stopped_at.is_some()).map(ending);
        ended.take(1).next().unwrap_or_else(|| "nothing".to_owned())
    }

    fn last_runs(&self, facts: &mut Vec<String>) {
        const SHOWN: usize = 3;
        let totals = self.process.totals;
        if totals.runs() > 1 {
            facts.push(format!(
                "runs that ended: {} well, {} failed, {} killed, {} lost",
                totals.success, totals.failed, totals.killed, totals.lost
            ));
        }
        let ended = self.process.runs.iter().rev();
        let ended = ended.filter(|run| run.stopped_at.is_some());
        facts.extend(ended.take(SHOWN).map(ending));
    }

    fn notices(&self, facts: &mut Vec<String>) {
        const SHOWN: usize = 5;
        let name = Some(&self.process.name);
        let about = self.status.notices.iter().rev();
        let about = about.filter(|notice| notice.name.as_ref() == name);
        facts.extend(
            about
                .take(SHOWN)
                .map(|notice| format!("{}: {}", notice.at, notice.text)),
        );
    }

    /// `in 3.2s` for a moment of CLOCK_BOOTTIME that is to come.
    fn distance(&self, boot_us: u64) -> String {
        let seconds = boot_us.saturating_sub(self.now.boot_us) as f64 / 1e6;
        format!("in {seconds:.1}s")
    }
}

/// `run 3 FAILED, exit code 1, at 12:00:00, after 1s`.
fn ending(run: &RunStatus) -> String {
    let how = match (&run.reason, run.exit_code, &run.signal) {
        _ if run.stopped => String::new(),
        (Some(reason), ..) => format!(", {reason}"),
        (None, Some(0), _) => String::new(),
        (None, Some(code), _) => format!(", exit code {code}"),
        (None, None, Some(signal)) => format!(", {signal}"),
        (None, None, None) => String::new(),
    };
    let at = run.stopped_at.map_or_else(String::new, |at| at.to_string());
    let took = run.took().map_or_else(String::new, |took| {
        let took = Period::new(took).unwrap_or_default();
        format!(", after {took}")
    });
    format!("run {} {}{how}, at {at}{took}", run.run, run.in_words())
}
