//! Requests of clients and of the steering to one task: kill it, restart or signal a process.
//!
//! Each request becomes a note for the journal and, for a signal, an order for the keeper.

use super::{
    error::{LAST_SIGNAL, Refusal},
    running_task::RunningTask,
};
use crate::{
    engine::plan::{Fact, NoRestart},
    journal::{self, KillRequest, Kind, Record, Restart},
    protocols::dewar::{link as wire, link::command::Kind as Order},
    sys::clock::now,
};

impl RunningTask {
    /// Asks the task to end. A task that has ended takes no more notes.
    pub(super) fn kill(&mut self, at_once: bool, budget_us: Option<u64>, batch: &mut wire::Batch) {
        if self.has_ended() {
            return;
        }
        let at = now();
        let fact = Fact::KillRequested {
            now: at_once,
            budget_us,
        };
        self.model.plan.apply(&fact, at.boot_us);
        let request = KillRequest {
            now: at_once,
            budget_us,
            reason: String::new(),
        };
        self.note(Record::new(at, Kind::Kill(request)), batch);
    }

    /// Asks for the process called `name` to run anew.
    ///
    /// # Errors
    /// Why it cannot be restarted now.
    pub(super) fn restart(&self, name: &str, batch: &mut wire::Batch) -> Result<(), Refusal> {
        let process = self.process(name)?;
        if let Some(refusal) = self.model.plan.refuses_restart(process) {
            let why = match refusal {
                NoRestart::NotActive => "the task is stopping".to_owned(),
                NoRestart::Final => "it is a final process".to_owned(),
                NoRestart::Blocked => {
                    let names = &self.model.task.processes;
                    let others: Vec<&str> = self
                        .model
                        .plan
                        .waiting_for(process)
                        .map(|other| names[other].name.as_str())
                        .collect();
                    format!("it has not begun: it waits for {}", others.join(", "))
                }
                NoRestart::Skipped => "it was skipped: it is not needed".to_owned(),
            };
            let process = name.to_owned();
            return Err(Refusal::NoRestart { process, why });
        }
        let restart = Restart {
            process: process as u32,
        };
        self.note(Record::new(now(), Kind::Restart(restart)), batch);
        Ok(())
    }

    /// Asks for a signal to be sent to the live run of the process called `name`.
    ///
    /// # Errors
    /// When there is no such process, or it does not run.
    pub(super) fn signal(
        &self,
        name: &str,
        signal: u32,
        batch: &mut wire::Batch,
    ) -> Result<(), Refusal> {
        if !(1..=LAST_SIGNAL).contains(&signal) {
            return Err(Refusal::NoSignal(signal));
        }
        let process = self.process(name)?;
        let live = self.model.plan.live();
        let Some((_, run)) = live.into_iter().find(|(other, _)| *other == process) else {
            return Err(Refusal::NotRunning(name.to_owned()));
        };
        let process = process as u32;
        let record = journal::Signal {
            process,
            run,
            signal,
            // The keeper says that it is.
            is_owed: false,
        };
        self.note(Record::new(now(), Kind::Signal(record)), batch);
        let order = wire::SignalRun {
            process,
            run,
            signal,
        };
        self.order(Order::SignalRun(order), batch);
        Ok(())
    }

    fn process(&self, name: &str) -> Result<usize, Refusal> {
        let mut all = self.model.task.processes.iter();
        all.position(|process| process.name == name)
            .ok_or_else(|| Refusal::NoProcess(name.to_owned()))
    }
}
