//! From records to facts: how a journal becomes a plan and a history.
//!
//! The runner, `dewar status` and all other readers use this one fold, so the same journal gives
//! the same state in every process that reads it.

use super::{
    held::{Held, held},
    history::History,
    past::{exit_of, past_of},
};
use crate::{
    engine::plan::{Fact, Plan},
    journal::{self, Kind, Record, Replay},
    task::Task,
};

/// A replayed task.
#[derive(Debug)]
pub struct Model {
    /// The task of the journal's header.
    pub task: Task,
    /// The plan, which decides what happens next.
    pub plan: Plan,
    /// The history, as far as it is on disk.
    pub history: History,
    /// How far its processes are held to their `resources`.
    pub held: Held,
    boot_id: Option<String>,
}

impl Model {
    /// Replays the first `count` records of `replay`.
    ///
    /// # Errors
    /// When the header's task cannot be read (it was written by something else).
    pub fn replay(replay: &Replay, count: usize) -> Result<Model, serde_json::Error> {
        let mut task: Task = serde_json::from_str(&replay.header.task)?;
        task.processes.shrink_to_fit();
        let mut model = Model {
            plan: Plan::new(&task, seed_of(&replay.header.task_id)),
            history: History::new(&replay.header, &task),
            held: held(&task, &replay.records),
            task,
            boot_id: None,
        };
        for record in replay.records.iter().take(count) {
            model.learn(record);
            model.history.apply(record);
        }
        Ok(model)
    }

    /// Tells the plan of a record, but not the history: clients must not be told of a record that
    /// is not on disk yet.
    pub fn learn(&mut self, record: &Record) {
        if let Some(Kind::Tenure(tenure)) = &record.kind {
            let before = self.boot_id.replace(tenure.boot_id.clone());
            if before.is_some_and(|before| before != tenure.boot_id) {
                self.plan.apply(&Fact::Rebooted, record.boot_us);
            }
        }
        for (fact, at) in facts_of(record) {
            self.plan.apply(&fact, at);
        }
    }
}

/// The task has entered a stage, unless this version does not know it.
fn entered(stage: &journal::Stage) -> Option<Fact> {
    let state = stage.state().known()?;
    Some(Fact::Entered {
        state,
        outcome: stage.outcome().known().unwrap_or(state),
        budget_us: stage.budget_us,
        final_us: stage.final_us,
    })
}

/// The facts for the plan that a record stands for, each with its time.
pub fn facts_of(record: &Record) -> Vec<(Fact, u64)> {
    let at = record.boot_us;
    let one = |fact| vec![(fact, at)];
    match &record.kind {
        Some(Kind::Start(start)) => one(Fact::Started {
            process: start.process as usize,
            run: start.run,
        }),
        Some(Kind::Exec(exec)) => one(Fact::Executed {
            process: exec.process as usize,
            run: exec.run,
        }),
        Some(Kind::Health(health)) => one(match health.process {
            Some(process) => Fact::Checked {
                process: process as usize,
                run: health.run,
                healthy: health.healthy,
            },
            // That the task as a whole is healthy changes nothing.
            None if health.healthy => return Vec::new(),
            None => Fact::Unfit(format!("failed health check: {}", health.reason)),
        }),
        Some(Kind::Exceeded(exceeded)) => one(Fact::Unfit(disk_exceeded(exceeded))),
        Some(Kind::TimedOut(late)) => one(Fact::TimedOut {
            process: late.process as usize,
            run: late.run,
        }),
        Some(Kind::Restart(restart)) => one(Fact::RestartRequested {
            process: restart.process as usize,
        }),
        Some(Kind::End(end)) => one(Fact::Ended {
            process: end.process as usize,
            run: end.run,
            exit: exit_of(end.how.as_ref(), end.out_of_memory),
        }),
        Some(Kind::Stage(stage)) => entered(stage).map_or_else(Vec::new, one),
        Some(Kind::Kill(kill)) => one(Fact::KillRequested {
            now: kill.now,
            budget_us: kill.budget_us,
        }),
        Some(Kind::Snapshot(snapshot)) => {
            let dropped = snapshot.dropped.iter().map(|past| {
                let process = past.process as usize;
                let past = past_of(past);
                (Fact::Dropped { process, past }, at)
            });
            dropped
                .chain(snapshot.kept.iter().flat_map(facts_of))
                .collect()
        }
        // Records of keepers, headers, notices, repeated launches of a run, and the records that an
        // executor keeps about itself change no plan.
        Some(
            Kind::Header(_)
            | Kind::Tenure(_)
            | Kind::Again(_)
            | Kind::Checked(_)
            | Kind::Signal(_)
            | Kind::SignalSent(_)
            | Kind::Notice(_)
            | Kind::Groups(_)
            | Kind::Init(_)
            | Kind::Opened(_)
            | Kind::Closed(_)
            | Kind::Accepted(_)
            | Kind::Update(_)
            | Kind::Acknowledged(_)
            | Kind::Subscribed(_)
            | Kind::Fact(_),
        )
        | None => Vec::new(),
    }
}

/// Why a task that takes too much space ends, in the words of Thermos' executor.
pub(super) fn disk_exceeded(exceeded: &journal::Exceeded) -> String {
    let (limit, used) = (exceeded.limit, exceeded.used);
    format!("Disk limit exceeded. Reserved {limit} bytes vs used {used} bytes.")
}

/// The seed of the random part of a task's pauses: every replay has the same one, another task has
/// another one.
fn seed_of(task_id: &str) -> u64 {
    u64::from(crc32c::crc32c(task_id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sys::clock::Moment;

    /// An old journal means the same for ever: the state that its readers are shown is a snapshot.
    #[test]
    fn golden_journals_keep_their_meaning() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/journals");
        let bytes = std::fs::read(directory.join("v1-compacted.journal")).unwrap();
        let copy = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(copy.path(), bytes).unwrap();
        let replay = journal::read(copy.path()).unwrap().unwrap();
        assert_eq!(replay.total(), 636);
        let model = Model::replay(&replay, usize::MAX).unwrap();
        let status = model
            .history
            .status(&model.plan, "journal", [None; 3], Moment::default());
        let plan = (
            model.plan.past(0),
            model.plan.situation(0),
            model.plan.counts(0),
        );
        let status = serde_json::to_string_pretty(&status).unwrap();
        insta::assert_snapshot!(format!("{plan:#?}\n{status}"));
    }
}
