//! The state as facts that make it again: a compaction puts them in the place of the journal's
//! history.

use super::state::{Fact, Kind, State, Task, Update};
use crate::protocols::dewar::{
    scheduler as wire,
    scheduler::{
        Change, Drain, Framework, Instance, KillRequested, Launched, Quota, Serial, Status,
        Superseded, Version,
    },
};

impl State {
    /// The facts with their times in milliseconds since 1970; facts whose time does not matter get
    /// `now`.
    pub fn snapshot(&self, now: u64) -> Vec<(u64, Fact)> {
        let mut facts = Facts(Vec::new());
        if let Some(id) = &self.framework {
            facts.add(now, Kind::Framework(Framework { id: id.clone() }));
        }
        for (role, amounts) in &self.quotas {
            let [cpus, mem, disk, gpus] = amounts.each();
            facts.add(
                now,
                Kind::Quota(Quota {
                    role: role.clone(),
                    cpus,
                    mem,
                    disk,
                    gpus,
                    is_removed: false,
                }),
            );
        }
        for hostname in &self.drained {
            let hostname = hostname.clone();
            facts.add(
                now,
                Kind::Drain(Drain {
                    hostname,
                    is_over: false,
                }),
            );
        }
        for (key, job) in &self.jobs {
            for (number, version) in &job.versions {
                // Every configuration was read from JSON, so it can be written as JSON.
                let config = serde_json::to_string(&version.config).unwrap_or_default();
                facts.add(
                    now,
                    Kind::Version(Version {
                        job: key.to_string(),
                        version: *number,
                        config,
                        is_current: *number == job.current,
                    }),
                );
            }
        }
        for (serial, task) in &self.tasks {
            facts.task(*serial, task);
        }
        for (key, job) in &self.jobs {
            for (number, instance) in &job.instances {
                facts.add(
                    now,
                    Kind::Instance(Instance {
                        job: key.to_string(),
                        instance: *number,
                        version: instance.wanted,
                        failures: instance.failures,
                        streak: instance.streak,
                        not_before: instance.not_before,
                        since: instance.since,
                        outcome: instance.outcome.number(),
                        avoid: instance.avoid.clone(),
                        last: instance.last.clone(),
                    }),
                );
            }
            if let Some(update) = &job.update {
                facts.update(now, key, update);
            }
        }
        let serial = self.serial;
        facts.add(now, Kind::Serial(Serial { serial }));
        facts.0
    }
}

struct Facts(Vec<(u64, Fact)>);

impl Facts {
    fn add(&mut self, at: u64, kind: Kind) {
        self.0.push((at, Fact { kind: Some(kind) }));
    }

    fn task(&mut self, serial: u64, task: &Task) {
        self.add(
            task.launched_at,
            Kind::Launched(Launched {
                serial,
                job: task.job.to_string(),
                instance: task.instance,
                version: task.version,
                agent_id: task.agent.to_string(),
                hostname: task.hostname.to_string(),
                ports: task.ports.iter().map(|port| u32::from(*port)).collect(),
                limited: task.limited.to_vec(),
            }),
        );
        if !task.silent {
            self.add(
                task.since,
                Kind::Status(Status {
                    serial,
                    state: task.state.into(),
                    healthy: task.healthy,
                    message: String::new(),
                    reason: String::new(),
                    since: Some(task.since),
                    working_since: task.working_since,
                }),
            );
        }
        if task.kill_requested {
            let serials = vec![serial];
            self.add(task.since, Kind::KillRequested(KillRequested { serials }));
        }
        if task.superseded {
            self.add(task.since, Kind::Superseded(Superseded { serial }));
        }
    }

    fn update(&mut self, now: u64, key: &str, update: &Update) {
        let changes = update.changes.iter().map(|(instance, change)| Change {
            instance: *instance,
            from: change.from,
            is_removal: change.to.is_none(),
            step: change.step.into(),
            touched: change.touched,
            failures: change.failures,
            outcome: change.outcome.number(),
        });
        self.add(
            now,
            Kind::Update(wire::Update {
                job: key.to_owned(),
                version: update.version,
                changes: changes.collect(),
                is_restart: update.is_restart,
                is_whole: update.is_whole,
                stage: update.stage.into(),
                reason: update.reason.clone(),
            }),
        );
    }
}
