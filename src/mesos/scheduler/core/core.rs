//! The core: state, what is known only for now, timers, and the order of things in one decision.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    agent::Agent,
    decision::{Call, Decision, Event, Measure},
    retries::Chore,
    settings::Settings,
    state::{Fact, Instance, Key, Kind, Outcome, State, Task},
};
use crate::protocols::dewar::scheduler as wire;

/// Instances that wait for a place: higher priorities first, then by job and version.
pub(super) type Group = (Reverse<i32>, Key, u32);

/// What is looked at again when its time has come; looking too early does no harm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Instance(Key, u32),
    Task(u64),
    Job(Key),
    Revive,
    Reconcile,
}

/// The scheduler without its sockets, its journal and its clock.
#[derive(Debug)]
pub struct Core {
    pub(super) settings: Settings,
    pub(super) state: State,
    /// Milliseconds since 1970, on a clock that never goes back.
    pub(super) now: u64,
    /// Since when the master hears us.
    pub(super) connected: Option<u64>,
    pub(super) agents: BTreeMap<Arc<str>, Agent>,
    pub(super) pending: BTreeMap<Group, BTreeSet<u32>>,
    /// Where in `pending` an instance is.
    indexed: BTreeMap<(Key, u32), Group>,
    timers: BTreeSet<(u64, Timer)>,
    pub(super) chores: BTreeMap<u64, Chore>,
    /// Something waits that has not been offered anything yet.
    pub(super) wants_offers: bool,
    pub(super) is_suppressed: bool,
    /// An offer came since the subscription: the agents are known.
    pub(super) has_seen_offers: bool,
    revived_at: Option<u64>,
    /// To be looked at before this decision is over.
    touched_jobs: BTreeSet<Key>,
    touched_instances: BTreeSet<(Key, u32)>,
    pub(super) asks: Vec<u64>,
    /// Everything is asked for then.
    pub(super) reconcile_at: u64,
    /// Tasks that were replaced while nobody heard of them.
    pub(super) superseded: BTreeSet<u64>,
    pub(super) out: Decision,
    /// Jobs that look different since they were last taken.
    changed: BTreeSet<Key>,
}

/// The id of a task; it ends with its serial, which no other task of ours has.
pub fn task_id(serial: u64, task: &Task) -> String {
    id_of(&task.job, task.instance, serial)
}

/// The id of the task of this instance that had this serial.
pub(super) fn id_of(key: &str, instance: u32, serial: u64) -> String {
    format!("{}-{instance}-{serial}", key.replace('/', "-"))
}

/// The serial in a task's id, if it is one of ours.
pub(super) fn serial_of(id: &str) -> Option<u64> {
    id.rsplit_once('-')?.1.parse().ok()
}

impl Core {
    /// Goes on with what lasted.
    pub fn new(settings: Settings, state: State, now: u64) -> Core {
        let mut core = Core {
            settings,
            state,
            now,
            connected: None,
            agents: BTreeMap::new(),
            pending: BTreeMap::new(),
            indexed: BTreeMap::new(),
            timers: BTreeSet::new(),
            chores: BTreeMap::new(),
            wants_offers: false,
            is_suppressed: false,
            has_seen_offers: false,
            revived_at: None,
            touched_jobs: BTreeSet::new(),
            touched_instances: BTreeSet::new(),
            asks: Vec::new(),
            reconcile_at: 0,
            superseded: BTreeSet::new(),
            out: Decision::default(),
            changed: BTreeSet::new(),
        };
        let serials: Vec<u64> = core.state.tasks.keys().copied().collect();
        for serial in serials {
            core.occupy(serial);
        }
        let superseded = core.state.tasks.iter().filter(|(_, task)| task.superseded);
        core.superseded = superseded.map(|(serial, _)| *serial).collect();
        for (key, job) in &core.state.jobs {
            core.touched_jobs.insert(Arc::clone(key));
            for number in job.instances.keys() {
                core.touched_instances.insert((Arc::clone(key), *number));
            }
        }
        core
    }

    /// All that lasts.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What it was given.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// True while the master hears us.
    pub fn is_connected(&self) -> bool {
        self.connected.is_some()
    }

    /// When something is due without any event; milliseconds since 1970.
    pub fn next_due(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// How many instances wait for a place.
    pub fn pending(&self) -> usize {
        self.pending.values().map(BTreeSet::len).sum()
    }

    /// Jobs that look different since this was last asked.
    pub fn take_changed(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.changed)
    }

    /// What follows from `event`. Earlier times than the last one count as that.
    pub fn handle(&mut self, event: Event, now: u64) -> Decision {
        self.now = self.now.max(now);
        match event {
            Event::Subscribed(id) => self.subscribed(id),
            Event::Disconnected => self.connected = None,
            Event::Offers(offers) => {
                self.settle();
                self.place(offers);
            }
            // Offers are answered as they come: what is rescinded was used, and its tasks will be told
            // of, or it was declined.
            Event::Rescinded(_) => {}
            Event::AgentLost(id) => self.agent_lost(&id),
            Event::Update(heard) => self.heard(heard),
            Event::Tick => {}
        }
        self.finish()
    }

    /// What a decision ends with, whatever it began with.
    pub(super) fn finish(&mut self) -> Decision {
        self.fire();
        self.settle();
        self.ask();
        self.want_offers();
        std::mem::take(&mut self.out)
    }

    fn subscribed(&mut self, id: String) {
        if self.state.framework.as_ref() != Some(&id) {
            self.fact(Kind::Framework(wire::Framework { id }));
        }
        self.connected = Some(self.now);
        self.is_suppressed = false;
        self.has_seen_offers = false;
        self.wants_offers |= !self.pending.is_empty();
        self.revived_at = None;
        // Updates stood still while nobody could say how they are.
        let jobs = self.state.jobs.iter();
        let updating = jobs.filter(|(_, job)| job.active_update().is_some());
        self.touched_jobs
            .extend(updating.map(|(key, _)| Arc::clone(key)));
        self.reconcile();
    }

    /// Something that lasts: it is true from here on, and goes to the journal.
    pub(super) fn fact(&mut self, kind: Kind) {
        self.touch(&kind);
        let fact = Fact { kind: Some(kind) };
        let gone = match &fact.kind {
            Some(Kind::Status(status)) => Some(status.serial),
            Some(Kind::Forgotten(forgotten)) => Some(forgotten.serial),
            _ => None,
        };
        let before = gone.and_then(|serial| self.state.tasks.get(&serial));
        let before = before.map(|task| (task.clone(), self.amounts_of(task)));
        self.state.apply(&fact, self.now, &self.settings.flapping);
        match &fact.kind {
            Some(Kind::Launched(launched)) => self.occupy(launched.serial),
            Some(Kind::Superseded(superseded)) => {
                self.superseded.insert(superseded.serial);
            }
            _ if gone.is_some_and(|serial| !self.state.tasks.contains_key(&serial)) => {
                if let Some((task, amounts)) = before {
                    self.vacate(&task, amounts);
                }
                if let Some(serial) = gone {
                    self.superseded.remove(&serial);
                }
            }
            _ => {}
        }
        self.out.facts.push(fact);
    }

    /// A job is to be looked at before this decision is over.
    pub(super) fn touch_job(&mut self, key: &Key) {
        self.touched_jobs.insert(Arc::clone(key));
    }

    /// Marks what a fact may have changed.
    fn touch(&mut self, kind: &Kind) {
        let of_task = |serial: &u64| {
            let task = self.state.tasks.get(serial)?;
            Some((Arc::clone(&task.job), vec![task.instance]))
        };
        let touched = match kind {
            Kind::Version(version) => Some((version.job.as_str().into(), Vec::new())),
            Kind::Want(want) => Some((want.job.as_str().into(), want.instances.clone())),
            Kind::Unwant(unwant) => Some((unwant.job.as_str().into(), unwant.instances.clone())),
            Kind::Launched(launched) => {
                let known = self.state.jobs.get_key_value(launched.job.as_str());
                known.map(|(key, _)| (Arc::clone(key), vec![launched.instance]))
            }
            Kind::Status(status) => of_task(&status.serial),
            Kind::Superseded(superseded) => of_task(&superseded.serial),
            Kind::Forgotten(forgotten) => of_task(&forgotten.serial),
            Kind::Update(update) => Some((update.job.as_str().into(), Vec::new())),
            Kind::UpdateStep(step) => Some((step.job.as_str().into(), Vec::new())),
            Kind::UpdateState(state) => Some((state.job.as_str().into(), Vec::new())),
            Kind::Doomed(doomed) => {
                for serial in &doomed.serials {
                    if let Some(task) = self.state.tasks.get(serial) {
                        self.changed.insert(Arc::clone(&task.job));
                    }
                }
                None
            }
            _ => None,
        };
        if let Some((key, instances)) = touched {
            for number in instances {
                self.touched_instances.insert((Arc::clone(&key), number));
            }
            self.changed.insert(Arc::clone(&key));
            self.touched_jobs.insert(key);
        }
    }

    /// Looks at all that was touched until nothing is.
    fn settle(&mut self) {
        loop {
            while let Some(key) = self.touched_jobs.pop_first() {
                self.advance_update(&key);
                self.consider_job(&key);
            }
            while let Some((key, number)) = self.touched_instances.pop_first() {
                self.index(&key, number);
            }
            if self.touched_jobs.is_empty() {
                return;
            }
        }
    }

    /// A job without instances and tasks is over.
    fn consider_job(&mut self, key: &Key) {
        let Some(job) = self.state.jobs.get(key) else {
            return;
        };
        if !job.instances.is_empty() {
            return;
        }
        if !job.live.is_empty() {
            // What nobody hears of holds nothing up: should it come back, nobody knows it, and it is killed.
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
            self.changed.insert(Arc::clone(key));
        }
    }

    /// Puts an instance where it belongs: among those that wait, or into the timers, or nowhere.
    pub(super) fn index(&mut self, key: &Key, number: u32) {
        let place = (Arc::clone(key), number);
        if let Some(group) = self.indexed.remove(&place)
            && let Some(numbers) = self.pending.get_mut(&group)
        {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.pending.remove(&group);
            }
        }
        let Some(job) = self.state.jobs.get(key) else {
            return;
        };
        let Some(instance) = job.instances.get(&number) else {
            return;
        };
        let Some(version) = needs_place(instance) else {
            return;
        };
        if instance.not_before > self.now {
            let at = instance.not_before;
            return self.at(at, Timer::Instance(place.0, number));
        }
        let priority = job
            .versions
            .get(&version)
            .map_or(0, |version| version.config.priority);
        let group = (Reverse(priority), Arc::clone(key), version);
        self.pending
            .entry(group.clone())
            .or_default()
            .insert(number);
        self.indexed.insert(place, group);
        self.wants_offers = true;
    }

    pub(super) fn at(&mut self, at: u64, timer: Timer) {
        self.timers.insert((at, timer));
    }

    /// Does what is due.
    fn fire(&mut self) {
        while let Some((at, _)) = self.timers.first()
            && *at <= self.now
            && let Some((_, timer)) = self.timers.pop_first()
        {
            match timer {
                Timer::Instance(key, number) => {
                    self.changed.insert(Arc::clone(&key));
                    self.touched_instances.insert((key, number));
                }
                Timer::Task(serial) => self.consider_task(serial),
                Timer::Job(key) => {
                    self.touched_jobs.insert(key);
                }
                Timer::Revive => {}
                // Every subscription asks, and sets another one.
                Timer::Reconcile if self.now < self.reconcile_at => {}
                Timer::Reconcile => self.reconcile(),
            }
        }
    }

    /// Asks for offers when something new waits, and asks for none when nothing does.
    fn want_offers(&mut self) {
        if self.connected.is_none() {
            return;
        }
        if self.pending.is_empty() {
            self.wants_offers = false;
            if !self.is_suppressed && self.has_seen_offers {
                self.is_suppressed = true;
                self.out.calls.push(Call::Suppress);
            }
            return;
        }
        let is_stale = self
            .revived_at
            .is_some_and(|at| at + self.settings.revive_again_ms <= self.now);
        if !self.wants_offers && !is_stale {
            return;
        }
        let next = self
            .revived_at
            .map_or(0, |at| at + self.settings.revive_gap_ms);
        if self.now < next {
            return self.at(next, Timer::Revive);
        }
        self.wants_offers = false;
        self.is_suppressed = false;
        self.revived_at = Some(self.now);
        self.out.calls.push(Call::Revive);
        // Calls get lost, and agents come back.
        let again = self.now + self.settings.revive_again_ms;
        self.at(again, Timer::Revive);
    }

    pub(super) fn measure(&mut self, measure: Measure) {
        self.out.measures.push(measure);
    }
}

/// The version that an instance is to be launched in, were there a place.
pub(super) fn needs_place(instance: &Instance) -> Option<u32> {
    let is_free = instance.task.is_none() && instance.outcome == Outcome::Open;
    instance.wanted.filter(|_| is_free)
}
