//! States of tasks, as executors, agents and the master report them.

use std::sync::Arc;

use super::{
    core::SchedulerCore,
    decision::{Call, Measure, StatusUpdate},
    state::{Kind, Outcome, Step, Task, is_over},
    task_ids::{serial_of, task_id},
};
use crate::{
    mesos::protocol::messages::TaskState,
    protocols::dewar::scheduler::{Status, UpdateStep},
};

/// The longest message that is kept, in characters.
const LONGEST: usize = 500;

impl SchedulerCore {
    pub(super) fn on_status_update(&mut self, update: StatusUpdate) {
        self.record_status(&update);
        if let (Some(uuid), Some(agent)) = (update.uuid, update.agent) {
            self.out.calls.push(Call::Acknowledge {
                task: update.task,
                agent,
                uuid,
            });
        }
    }

    fn record_status(&mut self, update: &StatusUpdate) {
        let serial = serial_of(&update.task);
        let known = serial.and_then(|serial| Some((serial, self.state.tasks.get(&serial)?)));
        let known = known.filter(|(serial, task)| task_id(*serial, task) == update.task);
        let Some((serial, task)) = known else {
            // The scheduler knows every task of its own that may run: this one is not wanted.
            let is_running = !is_over(update.state)
                && !matches!(
                    update.state,
                    TaskState::TaskUnreachable | TaskState::TaskUnknown
                );
            if is_running {
                self.out.calls.push(Call::Kill {
                    task: update.task.clone(),
                    agent: update.agent.clone(),
                });
            }
            return;
        };
        let task = task.clone();
        if self.confirm(serial, update.state) {
            // An update of the job may have waited for this.
            self.touched.job(&task.job);
        }
        if is_new(&task, update) {
            let is_last = is_over(update.state);
            self.measure_latency(&task, update.state);
            self.fact(Kind::Status(Status {
                serial,
                state: update.state.into(),
                healthy: update.healthy,
                message: match is_last {
                    true => shortened(&update.message),
                    false => String::new(),
                },
                reason: match is_last {
                    true => update.reason.clone(),
                    false => String::new(),
                },
                since: None,
                working_since: None,
            }));
            if is_last {
                self.count_failure(&task, update.state);
            }
        }
        self.advance_task(serial);
    }

    /// Measures how long it took to this state since the instance waited for a place.
    fn measure_latency(&mut self, task: &Task, state: TaskState) {
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

    /// Counts the end of a task against the update that changes its instance.
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
            // A lost or killed task is no failure of the version.
            _ => false,
        };
        let Some(update) = job.active_update() else {
            return;
        };
        let Some(change) = update.changes.get(&task.instance) else {
            return;
        };
        let counts = is_failure && !task.kill_requested && change.step == Step::Working;
        if !counts || update.target(change) != Some(task.version) {
            return;
        }
        let failures = change.failures + 1;
        let most = self.update_config(&task.job).max_per_instance_failures;
        // An instance that is not launched again cannot recover.
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

/// True when the update says something new. Updates may come twice, and late.
fn is_new(task: &Task, update: &StatusUpdate) -> bool {
    if is_over(update.state) {
        return true;
    }
    let rank = |state: TaskState| match state {
        TaskState::TaskStaging => 0,
        TaskState::TaskStarting => 1,
        TaskState::TaskRunning => 2,
        TaskState::TaskKilling => 3,
        _ => 4,
    };
    let is_late = task.is_reachable() && rank(update.state) < rank(task.state);
    let is_same = update.state == task.state && update.healthy == task.healthy && !task.silent;
    !is_late && !is_same
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}
