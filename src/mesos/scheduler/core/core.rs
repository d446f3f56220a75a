//! The core's state: what lasts, what is known only for now, and the one way to change what lasts.
//!
//! This is the ground of the room: a fact is applied here, and what follows at once from it (an
//! agent's use, marks) is kept in step. What is decided lies in the files above, and the order of
//! things in one decision in `dispatch`.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    agents::Agents,
    amounts::Amounts,
    decision::{Decision, Measure},
    offer_demand::OfferDemand,
    retries::Retries,
    settings::Settings,
    state::{Fact, Key, Kind, State, Task},
    timers::{Timer, Timers},
    touched::Touched,
    waiting::{Waiting, needs_place},
};

/// The scheduler without its sockets, its journal and its clock.
#[derive(Debug)]
pub struct SchedulerCore {
    pub(super) settings: Settings,
    pub(super) state: State,
    /// Milliseconds since 1970, on a clock that never goes back.
    pub(super) now: u64,
    /// Since when the scheduler is subscribed; `None` without a master.
    pub(super) connected: Option<u64>,
    pub(super) agents: Agents,
    pub(super) waiting: Waiting,
    pub(super) demand: OfferDemand,
    pub(super) timers: Timers,
    pub(super) touched: Touched,
    /// By the serials of their tasks.
    pub(super) retries: BTreeMap<u64, Retries>,
    /// Serials of tasks whose states the master is to be asked for in this decision.
    pub(super) questions: Vec<u64>,
    /// When the master is next asked for the states of all tasks.
    pub(super) reconcile_at: u64,
    /// Serials of tasks that were replaced while they were unreachable.
    pub(super) superseded: BTreeSet<u64>,
    /// The decision that is being made.
    pub(super) out: Decision,
}

impl SchedulerCore {
    /// Goes on with what lasted.
    pub fn new(settings: Settings, state: State, now: u64) -> SchedulerCore {
        let mut core = SchedulerCore {
            settings,
            state,
            now,
            connected: None,
            agents: Agents::default(),
            waiting: Waiting::default(),
            demand: OfferDemand::default(),
            timers: Timers::default(),
            touched: Touched::default(),
            retries: BTreeMap::new(),
            questions: Vec::new(),
            reconcile_at: 0,
            superseded: BTreeSet::new(),
            out: Decision::default(),
        };
        let serials: Vec<u64> = core.state.tasks.keys().copied().collect();
        for serial in serials {
            core.occupy(serial);
        }
        let superseded = core.state.tasks.iter().filter(|(_, task)| task.superseded);
        core.superseded = superseded.map(|(serial, _)| *serial).collect();
        for (key, job) in &core.state.jobs {
            core.touched.job(key);
            for number in job.instances.keys() {
                core.touched.instance(key, *number);
            }
        }
        core
    }

    /// All that lasts.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The settings that it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// True while the scheduler is subscribed.
    pub fn is_connected(&self) -> bool {
        self.connected.is_some()
    }

    /// When something is due without any event; milliseconds since 1970.
    pub fn next_due(&self) -> Option<u64> {
        self.timers.next()
    }

    /// How many instances wait for a place.
    pub fn pending(&self) -> usize {
        self.waiting.count()
    }

    /// Takes the jobs that look different since this was last called.
    pub fn take_changed(&mut self) -> BTreeSet<Key> {
        self.touched.take_changed()
    }

    /// Something that lasts: it is true from here on, and goes to the journal.
    pub(super) fn fact(&mut self, kind: Kind) {
        self.touched.by_fact(&kind, &self.state);
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
                    self.agents.vacate(&task, amounts);
                }
                if let Some(serial) = gone {
                    self.superseded.remove(&serial);
                }
            }
            _ => {}
        }
        self.out.facts.push(fact);
    }

    fn occupy(&mut self, serial: u64) {
        if let Some(task) = self.state.tasks.get(&serial) {
            let amounts = self.amounts_of(task);
            self.agents.occupy(task, amounts);
        }
    }

    /// What a task uses, its executor included.
    fn amounts_of(&self, task: &Task) -> Amounts {
        let version = self.state.version_of(task);
        version.map_or_else(Amounts::default, |version| {
            version.amounts + self.settings.overhead
        })
    }

    /// Puts an instance where it belongs: among those that wait, or into the timers, or nowhere.
    pub(super) fn index_instance(&mut self, key: &Key, number: u32) {
        self.waiting.remove(key, number);
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
            let timer = Timer::Instance(Arc::clone(key), number);
            return self.timers.set(instance.not_before, timer);
        }
        let priority = job
            .versions
            .get(&version)
            .map_or(0, |version| version.config.priority);
        let group = (Reverse(priority), Arc::clone(key), version);
        self.waiting.add(group, number);
        self.demand.wants();
    }

    pub(super) fn measure(&mut self, measure: Measure) {
        self.out.measures.push(measure);
    }
}
