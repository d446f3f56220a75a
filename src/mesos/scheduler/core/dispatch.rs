//! The order of things in one decision: first what happened, then what is due, then what was
//! touched by that, and at last what is to be asked of the master.

use super::{
    core::SchedulerCore,
    decision::{Decision, Event},
    request::{Answer, Refusal, Request},
    state::{Key, Kind},
    timers::Timer,
};
use crate::protocols::dewar::scheduler as wire;

impl SchedulerCore {
    /// Decides what follows from `event`. A time before that of the last event counts as that time.
    pub fn handle(&mut self, event: Event, now: u64) -> Decision {
        self.now = self.now.max(now);
        match event {
            Event::Subscribed(id) => self.subscribed(id),
            Event::Disconnected => self.connected = None,
            Event::Offers(offers) => {
                self.process_touched();
                self.place(offers);
            }
            // Offers are answered as they come: a rescinded one was declined, or it was used and
            // the master sends updates about its tasks.
            Event::Rescinded(_) => {}
            Event::AgentLost(id) => self.agents.lost(&id),
            Event::Update(update) => self.on_status_update(update),
            Event::Tick => {}
        }
        self.finish()
    }

    /// Does what an operator asks for, or says why not; then nothing has changed.
    pub fn request(&mut self, request: Request, now: u64) -> (Result<Answer, Refusal>, Decision) {
        self.now = self.now.max(now);
        let answer = self.answer(request);
        (answer, self.finish())
    }

    /// What every decision ends with.
    fn finish(&mut self) -> Decision {
        self.fire_timers();
        self.process_touched();
        self.send_questions();
        if self.connected.is_some() {
            let waits = !self.waiting.is_empty();
            let (call, look_again) = self.demand.next(waits, self.now, &self.settings);
            self.out.calls.extend(call);
            if let Some(at) = look_again {
                self.timers.set(at, Timer::Revive);
            }
        }
        std::mem::take(&mut self.out)
    }

    fn subscribed(&mut self, id: String) {
        if self.state.framework.as_ref() != Some(&id) {
            self.fact(Kind::Framework(wire::Framework { id }));
        }
        self.connected = Some(self.now);
        self.demand.subscribed(!self.waiting.is_empty());
        // Updates stood still while the states of their tasks were not known.
        for (key, job) in &self.state.jobs {
            if job.active_update().is_some() {
                self.touched.job(key);
            }
        }
        self.reconcile();
    }

    /// Does what is due.
    fn fire_timers(&mut self) {
        while let Some(timer) = self.timers.take_due(self.now) {
            match timer {
                Timer::Instance(key, number) => {
                    self.touched.changed(&key);
                    self.touched.instance(&key, number);
                }
                Timer::Task(serial) => self.advance_task(serial),
                Timer::Job(key) => self.touched.job(&key),
                Timer::Revive => {}
                // Every subscription asks, and sets another timer.
                Timer::Reconcile if self.now < self.reconcile_at => {}
                Timer::Reconcile => self.reconcile(),
            }
        }
    }

    /// Looks at all that was touched until nothing is.
    fn process_touched(&mut self) {
        loop {
            while let Some(key) = self.touched.take_job() {
                self.advance_update(&key);
                self.retire_empty_job(&key);
            }
            while let Some((key, number)) = self.touched.take_instance() {
                self.index_instance(&key, number);
            }
            if !self.touched.has_jobs() {
                return;
            }
        }
    }

    /// Forgets a job that has neither instances nor tasks.
    fn retire_empty_job(&mut self, key: &Key) {
        let Some(job) = self.state.jobs.get(key) else {
            return;
        };
        if !job.instances.is_empty() {
            return;
        }
        if !job.live.is_empty() {
            // A superseded task that is unreachable holds nothing up. Should it come back, it is an
            // unknown task, and is killed.
            let superseded = self.superseded.iter().copied();
            let lost: Vec<u64> = superseded
                .filter(|serial| {
                    let task = self.state.tasks.get(serial);
                    task.is_some_and(|task| task.job == *key && !task.is_reachable())
                })
                .collect();
            for serial in lost {
                self.fact(Kind::Forgotten(wire::Forgotten { serial }));
            }
        }
        let is_over = self
            .state
            .jobs
            .get(key)
            .is_some_and(|job| job.live.is_empty());
        if is_over {
            self.fact(Kind::Removed(wire::Removed {
                job: key.to_string(),
            }));
            self.touched.changed(key);
        }
    }
}
