//! News of tasks.

use std::sync::Arc;

use super::{
    core::{Core, serial_of, task_id},
    decision::{Call, Heard, Measure},
    state::{Kind, Outcome, Step, Task, is_over},
};
use crate::{
    mesos::protocol::messages::TaskState,
    protocols::dewar::scheduler::{Status, UpdateStep},
};

/// Longest message that is kept.
const LONGEST: usize = 500;

impl Core {
    pub(super) fn heard(&mut self, heard: Heard) {
        self.learn(&heard);
        if let (Some(uuid), Some(agent)) = (heard.uuid, heard.agent) {
            self.out.calls.push(Call::Acknowledge {
                task: heard.task,
                agent,
                uuid,
            });
        }
    }

    fn learn(&mut self, heard: &Heard) {
        let serial = serial_of(&heard.task);
        let known = serial.and_then(|serial| Some((serial, self.state.tasks.get(&serial)?)));
        let known = known.filter(|(serial, task)| task_id(*serial, task) == heard.task);
        let Some((serial, task)) = known else {
            // Every task of ours that may be running is known, so this one is nobody's.
            let is_running = !is_over(heard.state)
                && !matches!(
                    heard.state,
                    TaskState::TaskUnreachable | TaskState::TaskUnknown
                );
            if is_running {
                self.out.calls.push(Call::Kill {
                    task: heard.task.clone(),
                    agent: heard.agent.clone(),
                });
            }
            return;
        };
        let task = task.clone();
        if self.confirm(serial, heard.state) {
            // An update may have waited for just this.
            self.touch_job(&task.job);
        }
        if is_news(&task, heard) {
            let is_last = is_over(heard.state);
            self.measure_news(&task, heard.state);
            self.fact(Kind::Status(Status {
                serial,
                state: heard.state.into(),
                healthy: heard.healthy,
                message: match is_last {
                    true => shortened(&heard.message),
                    false => String::new(),
                },
                reason: match is_last {
                    true => heard.reason.clone(),
                    false => String::new(),
                },
                since: None,
                working_since: None,
            }));
            if is_last {
                self.count_failure(&task, heard.state);
            }
        }
        self.consider_task(serial);
    }

    /// How long the way to this state took, from the moment that its instance waited for a place.
    fn measure_news(&mut self, task: &Task, state: TaskState) {
        let instance = self.state.instance(&task.job, task.instance);
        let Some(instance) = instance else { return };
        let took = self.now.saturating_sub(instance.since);
        match state {
            TaskState::TaskStarting => self.measure(Measure::Starting(took)),
            TaskState::TaskRunning if task.working_since.is_none() && task.is_reachable() => {
                self.measure(Measure::Running(took));
            }
            _ => {}
        }
    }

    /// A task of an instance that is being updated has ended by itself.
    fn count_failure(&mut self, task: &Task, state: TaskState) {
        let Some(job) = self.state.jobs.get(&task.job) else {
            return;
        };
        let is_service = job
            .versions
            .get(&task.version)
            .is_some_and(|version| version.config.service);
        let is_failure = match state {
            TaskState::TaskFailed | TaskState::TaskError => true,
            TaskState::TaskFinished => is_service,
            // Lost, or ended by somebody: no fault of the version's.
            _ => false,
        };
        let Some(update) = job.active_update() else {
            return;
        };
        let Some(change) = update.changes.get(&task.instance) else {
            return;
        };
        let counts = is_failure && !task.doomed && change.step == Step::Working;
        if !counts || update.target(change) != Some(task.version) {
            return;
        }
        let failures = change.failures + 1;
        let most = self.update_config(&task.job).max_per_instance_failures;
        // One that is not launched again will never do better.
        let is_final = job
            .instances
            .get(&task.instance)
            .is_some_and(|instance| instance.outcome == Outcome::Failed);
        let step = match failures > most || is_final {
            true => Step::Failed,
            false => Step::Working,
        };
        self.fact(Kind::UpdateStep(UpdateStep {
            job: Arc::clone(&task.job).to_string(),
            instance: task.instance,
            step: step.into(),
            failures,
        }));
    }
}

/// True when it says something new. News of a task may come twice, and late.
fn is_news(task: &Task, heard: &Heard) -> bool {
    if is_over(heard.state) {
        return true;
    }
    let rank = |state: TaskState| match state {
        TaskState::TaskStaging => 0,
        TaskState::TaskStarting => 1,
        TaskState::TaskRunning => 2,
        TaskState::TaskKilling => 3,
        _ => 4,
    };
    let is_late = task.is_reachable() && rank(heard.state) < rank(task.state);
    let is_same = heard.state == task.state && heard.healthy == task.healthy && !task.silent;
    !is_late && !is_same
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}
