//! What the scheduler counts, in Prometheus' text format.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::core::{Call, Decision, Measure, SchedulerCore, Totals};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answer {
    answer: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Until {
    until: &'static str,
}

/// A histogram of seconds, with buckets from five milliseconds to three hours.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 22))
}

/// Everything that is counted.
pub(super) struct Metrics {
    registry: Registry,
    instances: Family<State, Gauge>,
    jobs: Gauge,
    agents: Gauge,
    connected: Gauge,
    offers: Family<Answer, Counter>,
    launches: Counter,
    kills: Counter,
    latency: Family<Until, Histogram>,
    losses: Counter,
    facts: Counter,
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("dewar_scheduler");
        let metrics = Metrics {
            instances: Family::default(),
            jobs: Gauge::default(),
            agents: Gauge::default(),
            connected: Gauge::default(),
            offers: Family::default(),
            launches: Counter::default(),
            kills: Counter::default(),
            latency: Family::new_with_constructor(seconds),
            losses: Counter::default(),
            facts: Counter::default(),
            registry: Registry::default(),
        };
        registry.register(
            "instances",
            "Instances of jobs, by state",
            metrics.instances.clone(),
        );
        registry.register("jobs", "Jobs", metrics.jobs.clone());
        registry.register(
            "agents",
            "Agents that have shown themselves",
            metrics.agents.clone(),
        );
        registry.register(
            "connected",
            "1 while a master hears us",
            metrics.connected.clone(),
        );
        registry.register(
            "offers",
            "Offers that were answered, by the answer",
            metrics.offers.clone(),
        );
        registry.register("launches", "Tasks launched", metrics.launches.clone());
        registry.register("kills", "Kills sent", metrics.kills.clone());
        registry.register(
            "latency_seconds",
            "From waiting for a place until assigned, starting, running",
            metrics.latency.clone(),
        );
        registry.register(
            "connections_lost",
            "Streams that ended",
            metrics.losses.clone(),
        );
        registry.register("facts", "Facts written", metrics.facts.clone());
        Metrics {
            registry,
            ..metrics
        }
    }

    /// Counts a stream that has ended.
    pub fn lost(&self) {
        self.losses.inc();
    }

    /// Counts what was decided.
    pub fn decided(&self, decision: &Decision) {
        self.facts.inc_by(decision.facts.len() as u64);
        let answered = |answer, count: usize| {
            let counter = self.offers.get_or_create(&Answer { answer });
            counter.inc_by(count as u64);
        };
        for call in &decision.calls {
            match call {
                Call::Accept {
                    offers, launches, ..
                } => {
                    answered("accepted", offers.len());
                    self.launches.inc_by(launches.len() as u64);
                }
                Call::Decline { offers, .. } => answered("declined", offers.len()),
                Call::Kill { .. } => drop(self.kills.inc()),
                _ => {}
            }
        }
        for measure in &decision.measures {
            let (until, took) = match measure {
                Measure::Assigned(took) => ("assigned", took),
                Measure::Starting(took) => ("starting", took),
                Measure::Running(took) => ("running", took),
            };
            let histogram = self.latency.get_or_create(&Until { until });
            histogram.observe(*took as f64 / 1000.0);
        }
    }

    /// The metrics' text, with gauges of the present state.
    pub fn text(&self, core: &SchedulerCore) -> Result<String, std::fmt::Error> {
        let mut all = Totals::default();
        let jobs = core.jobs();
        for job in &jobs {
            all.add(&job.totals);
        }
        for (state, count) in all.by_state() {
            let gauge = self.instances.get_or_create(&State { state });
            gauge.set(i64::from(count));
        }
        self.jobs.set(jobs.len() as i64);
        self.agents.set(core.agents().len() as i64);
        self.connected.set(i64::from(core.is_connected()));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
