//! Requests of operators: create, update, scale, restart and kill jobs; drain hosts; set quotas.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    amounts::Amounts,
    core::SchedulerCore,
    near_key::near_key,
    quotas::{job_amounts, job_amounts_during},
    request::{Answer, Refusal, RefusalKind, Request},
    state::{JobState, Key, Kind, Update, UpdateStage, Version as Known},
};
use crate::{
    protocols::dewar::{
        scheduler as wire,
        scheduler::{Change, RemoveInstances, Version, Want},
    },
    task::{Job, MOST_INSTANCES},
};

impl SchedulerCore {
    /// Does what an operator asks for, or refuses; after a refusal nothing has changed.
    pub(super) fn answer(&mut self, request: Request) -> Result<Answer, Refusal> {
        match request {
            Request::Create(job) => self.create(*job),
            Request::Update { job, only, force } => self.update(*job, &only, force),
            Request::Restart(key, instances) => self.restart(&key, &instances),
            Request::Kill(key, instances) => self.kill(&key, &instances),
            Request::Scale(key, count) => self.scale(&key, count),
            Request::Pause(key) => self.pause_update(&key),
            Request::Resume(key) => self.resume(&key),
            Request::Abort(key) => self.abort(&key),
            Request::Drain { host } => self.drain(&host),
            Request::Undrain { host } => self.undrain(&host),
            Request::Quota(role, amounts) => Ok(self.set_quota(role, amounts)),
        }
    }

    /// The key of the job with this key.
    ///
    /// # Errors
    /// If there is no such job; the refusal names a key near it.
    pub fn known(&self, key: &str) -> Result<Key, Refusal> {
        if let Some((key, _)) = self.state.jobs.get_key_value(key) {
            return Ok(Arc::clone(key));
        }
        let refusal = Refusal::new(RefusalKind::Unknown, format!("there is no job {key}"));
        Err(match near_key(key, self.state.jobs.keys()) {
            Some(near) => refusal.hint(format!("did you mean {near}?")),
            None if self.state.jobs.is_empty() => refusal.hint("there are no jobs at all"),
            None => refusal.hint("`dewar job status` lists them"),
        })
    }

    fn create(&mut self, job: Job) -> Result<Answer, Refusal> {
        let key = job.key();
        if let Some(known) = self.state.jobs.get(key.as_str()) {
            let is_going = known.wanted() == 0;
            let text = match is_going {
                true => format!("{key} is being killed"),
                false => format!("there is a job {key} already"),
            };
            let hint = match is_going {
                true => "wait for its end",
                false => "to change it: dewar job update",
            };
            return Err(Refusal::new(RefusalKind::Conflict, text).hint(hint));
        }
        let count = job.instances;
        let amounts = Amounts::of_job(&job) * u64::from(count);
        self.check_quota(&job.role, &key, amounts)?;
        self.add_version(&key, 0, &job, true)?;
        self.fact(Kind::Want(Want {
            job: key.clone(),
            instances: (0..count).collect(),
            version: 0,
            outcome: 0,
        }));
        Ok(Answer::Begun(key, format!("{} to run", instances(count))))
    }

    fn update(&mut self, job: Job, only: &BTreeSet<u32>, force: bool) -> Result<Answer, Refusal> {
        let key = self.known(&job.key())?;
        let known = self.idle_job(&key)?;
        let is_whole = only.is_empty();
        let count = job.instances;
        let mut changes = Vec::new();
        let mut same_spec = SameSpec::default();
        let mut numbers: BTreeSet<u32> = known.instances.keys().copied().collect();
        match is_whole {
            true => numbers.extend(0..count),
            false => check_instances(known, only)?,
        }
        for number in numbers {
            if !is_whole && !only.contains(&number) {
                continue;
            }
            let from = known.instances.get(&number).and_then(|one| one.wanted);
            let is_removal = is_whole && number >= count;
            if is_removal && from.is_none() {
                continue;
            }
            let is_same = from.is_some_and(|from| same_spec.holds(known, from, &job, number));
            if is_removal || !is_same {
                let outcome = known.instances.get(&number).map(|one| one.outcome);
                changes.push(Change {
                    instance: number,
                    from,
                    is_removal,
                    outcome: outcome.unwrap_or_default().number(),
                    ..Change::default()
                });
            }
        }
        let amounts = job_amounts_during(known, &job, &changes);
        self.check_quota(&job.role, &key, amounts)?;
        let version = next_version(known);
        if changes.is_empty() {
            let is_current = known.current().is_some_and(|current| current.config == job);
            if is_whole && !is_current {
                self.add_version(&key, version, &job, true)?;
            }
            return Ok(Answer::Done(format!("{key}: nothing that runs changes")));
        }
        let text = summary(&changes, known);
        let target = Known {
            amounts: Amounts::of_job(&job),
            config: job.clone(),
        };
        if !force
            && self.is_connected()
            && changes.iter().any(|change| !change.is_removal)
            && let Some(why) = self.never_fits(&target)
        {
            return Err(Refusal::new(
                RefusalKind::Conflict,
                format!("{key} as it is to be: {why}"),
            )
            .hint("nothing was changed; with --force it is tried as if such an agent would come"));
        }
        self.add_version(&key, version, &job, false)?;
        self.begin_update(&key, version, changes, false, is_whole);
        Ok(Answer::Begun(key.to_string(), text))
    }

    fn restart(&mut self, key: &str, only: &BTreeSet<u32>) -> Result<Answer, Refusal> {
        let key = self.known(key)?;
        let known = self.idle_job(&key)?;
        check_instances(known, only)?;
        // An update has one target version, so all instances to restart must run the same one.
        let wanted = known.instances.iter().filter(|(number, one)| {
            one.wanted.is_some() && (only.is_empty() || only.contains(number))
        });
        let wanted: Vec<(u32, u32)> = wanted
            .filter_map(|(number, one)| Some((*number, one.wanted?)))
            .collect();
        let Some((_, first)) = wanted.first().copied() else {
            return Err(Refusal::new(
                RefusalKind::Conflict,
                format!("{key} has no instances"),
            ));
        };
        // Versions with different numbers may still run the same.
        let runs_first = |number: u32, version: u32| {
            let config = |version| known.versions.get(&version).map(|one| &one.config);
            match (config(version), config(first)) {
                (Some(one), Some(other)) => version == first || one.runs_same(other, number),
                _ => false,
            }
        };
        let mut each = wanted.iter();
        if let Some((other, _)) = each.find(|(number, version)| !runs_first(*number, *version)) {
            let text = format!("instance {other} is of another version than the others");
            return Err(Refusal::new(RefusalKind::Conflict, text)
                .hint("restart those of one version at a time, with --instances"));
        }
        let (Some(begun), Some(current)) = (known.versions.get(&first), known.current()) else {
            return Err(Refusal::new(
                RefusalKind::Conflict,
                format!("{key} has no configuration"),
            ));
        };
        // How instances are replaced is said by the current configuration.
        let config = Job {
            update: current.config.update.clone(),
            ..begun.config.clone()
        };
        let version = next_version(known);
        let changes: Vec<Change> = wanted
            .iter()
            .map(|(instance, from)| Change {
                instance: *instance,
                from: Some(*from),
                ..Change::default()
            })
            .collect();
        let count = changes.len() as u32;
        // Instances that are added later get what runs now, whichever number its version has.
        let is_whole = only.is_empty() && runs_first(0, known.current);
        self.add_version(&key, version, &config, false)?;
        self.begin_update(&key, version, changes, true, is_whole);
        Ok(Answer::Begun(
            key.to_string(),
            format!("{} to restart", instances(count)),
        ))
    }

    fn begin_update(
        &mut self,
        key: &Key,
        version: u32,
        changes: Vec<Change>,
        is_restart: bool,
        is_whole: bool,
    ) {
        self.fact(Kind::Update(wire::Update {
            job: key.to_string(),
            version,
            changes,
            is_restart,
            is_whole,
            ..wire::Update::default()
        }));
    }

    fn kill(&mut self, key: &str, only: &BTreeSet<u32>) -> Result<Answer, Refusal> {
        let key = self.known(key)?;
        let Some(known) = self.state.jobs.get(&key) else {
            return Err(Refusal::new(
                RefusalKind::Unknown,
                format!("there is no job {key}"),
            ));
        };
        check_instances(known, only)?;
        if !only.is_empty() {
            self.idle_job(&key)?;
        }
        let known = self.state.jobs.get(&key);
        let numbers: Vec<u32> = known
            .into_iter()
            .flat_map(|known| known.instances.keys().copied())
            .filter(|number| only.is_empty() || only.contains(number))
            .collect();
        if self.active_update(&key).is_some() {
            self.set_stage(&key, UpdateStage::Aborted, "the job was killed");
        }
        let count = numbers.len() as u32;
        self.remove(&key, numbers);
        Ok(Answer::Begun(
            key.to_string(),
            format!("{} to end", instances(count)),
        ))
    }

    fn scale(&mut self, key: &str, count: u32) -> Result<Answer, Refusal> {
        let key = self.known(key)?;
        if count == 0 || count > MOST_INSTANCES {
            let text = format!("{count} instances: 1 to {MOST_INSTANCES} can be");
            return Err(Refusal::new(RefusalKind::Invalid, text).hint("to end all: dewar job kill"));
        }
        let known = self.idle_job(&key)?;
        let Some(current) = known.current() else {
            return Err(Refusal::new(
                RefusalKind::Conflict,
                format!("{key} has no configuration"),
            ));
        };
        let wanted = |number: &u32| {
            known
                .instances
                .get(number)
                .is_some_and(|one| one.wanted.is_some())
        };
        let added: Vec<u32> = (0..count).filter(|number| !wanted(number)).collect();
        let last = known.instances.keys().copied().filter(wanted);
        let removed: Vec<u32> = last.filter(|number| *number >= count).collect();
        let role = current.config.role.clone();
        let grown = job_amounts(known) + current.amounts * added.len() as u64;
        if !added.is_empty() {
            self.check_quota(&role, &key, grown)?;
        }
        let version = known.current;
        let text = match (added.len() as u32, removed.len() as u32) {
            (0, 0) => format!("{key} has {} already", instances(count)),
            (more, 0) => format!("{} more", instances(more)),
            (0, fewer) => format!("{} fewer", instances(fewer)),
            (more, fewer) => format!(
                "{} more, {fewer} with higher numbers fewer",
                instances(more)
            ),
        };
        if !added.is_empty() {
            self.fact(Kind::Want(Want {
                job: key.to_string(),
                instances: added,
                version,
                outcome: 0,
            }));
        }
        self.remove(&key, removed);
        Ok(Answer::Begun(key.to_string(), text))
    }

    /// Removes instances, and kills their tasks.
    fn remove(&mut self, key: &Key, numbers: Vec<u32>) {
        if numbers.is_empty() {
            return;
        }
        let tasks: Vec<u64> = match self.state.jobs.get(key) {
            None => Vec::new(),
            Some(job) => {
                let all = numbers.iter();
                all.filter_map(|number| job.instances.get(number)?.task)
                    .collect()
            }
        };
        self.request_kill(tasks);
        self.fact(Kind::RemoveInstances(RemoveInstances {
            job: key.to_string(),
            instances: numbers,
        }));
    }

    fn pause_update(&mut self, key: &str) -> Result<Answer, Refusal> {
        let (key, stage) = self.updating(key)?;
        let stage = match stage {
            UpdateStage::RollingForward => UpdateStage::RollForwardPaused,
            UpdateStage::RollingBack => UpdateStage::RollBackPaused,
            _ => {
                let text = format!("the update of {key} is paused already");
                return Err(Refusal::new(RefusalKind::Conflict, text));
            }
        };
        Ok(self.change_stage(&key, stage, "paused"))
    }

    fn resume(&mut self, key: &str) -> Result<Answer, Refusal> {
        let (key, stage) = self.updating(key)?;
        let stage = match stage {
            UpdateStage::RollForwardPaused => UpdateStage::RollingForward,
            UpdateStage::RollBackPaused => UpdateStage::RollingBack,
            _ => {
                let text = format!("the update of {key} is not paused");
                return Err(Refusal::new(RefusalKind::Conflict, text));
            }
        };
        Ok(self.change_stage(&key, stage, "resumed"))
    }

    fn abort(&mut self, key: &str) -> Result<Answer, Refusal> {
        let (key, _) = self.updating(key)?;
        Ok(self.change_stage(&key, UpdateStage::Aborted, "aborted"))
    }

    fn change_stage(&mut self, key: &Key, stage: UpdateStage, word: &str) -> Answer {
        let update = self.active_update(key);
        // The reason of a rollback is kept over a pause.
        let reason = update.map_or_else(String::new, |update| update.reason.clone());
        self.set_stage(key, stage, &reason);
        Answer::Done(format!("the update of {key} is {word}"))
    }

    /// The job with this key, and the stage of its update.
    fn updating(&self, key: &str) -> Result<(Key, UpdateStage), Refusal> {
        let key = self.known(key)?;
        match self.active_update(&key).map(|update| update.stage) {
            Some(stage) => Ok((key, stage)),
            None => {
                let text = format!("no update of {key} is under way");
                Err(Refusal::new(RefusalKind::Conflict, text))
            }
        }
    }

    fn active_update(&self, key: &Key) -> Option<&Update> {
        self.state.jobs.get(key)?.active_update()
    }

    /// The job, if no update of it is under way and it is not being killed.
    fn idle_job(&self, key: &Key) -> Result<&JobState, Refusal> {
        let Some(job) = self.state.jobs.get(key) else {
            return Err(Refusal::new(
                RefusalKind::Unknown,
                format!("there is no job {key}"),
            ));
        };
        if job.active_update().is_some() {
            let text = format!("an update of {key} is under way");
            return Err(Refusal::new(RefusalKind::Conflict, text)
                .hint("wait for its end, or: dewar job abort"));
        }
        if job.wanted() == 0 {
            return Err(Refusal::new(
                RefusalKind::Conflict,
                format!("{key} is being killed"),
            ));
        }
        Ok(job)
    }

    fn undrain(&mut self, host: &str) -> Result<Answer, Refusal> {
        if !self.state.drained.contains(host) {
            let text = format!("{host} is not drained");
            return Err(Refusal::new(RefusalKind::Conflict, text));
        }
        self.fact(Kind::Drain(wire::Drain {
            hostname: host.to_owned(),
            is_over: true,
        }));
        if !self.waiting.is_empty() {
            self.demand.wants();
        }
        Ok(Answer::Done(format!("{host} is used again")))
    }

    fn drain(&mut self, host: &str) -> Result<Answer, Refusal> {
        if self.state.drained.contains(host) {
            let text = format!("{host} is drained already");
            return Err(Refusal::new(RefusalKind::Conflict, text));
        }
        let hosts: BTreeSet<Arc<str>> = self
            .agents
            .values()
            .map(|agent| Arc::clone(&agent.hostname))
            .collect();
        self.fact(Kind::Drain(wire::Drain {
            hostname: host.to_owned(),
            is_over: false,
        }));
        let tasks = self.state.tasks.iter();
        let tasks: Vec<u64> = tasks
            .filter(|(_, task)| &*task.hostname == host && !task.kill_requested)
            .map(|(serial, _)| *serial)
            .collect();
        let count = tasks.len() as u32;
        self.request_kill(tasks);
        let mut text = format!("{} to leave {host}", instances(count));
        let others = self
            .agents
            .values()
            .filter(|agent| !agent.is_lost && !self.state.drained.contains(&*agent.hostname));
        if count > 0 && others.count() == 0 {
            text += ", and no other agent is left for them";
        }
        if hosts.contains(host) {
            return Ok(Answer::Done(text));
        }
        // The host's agent may not have offered anything yet, or there is no such host.
        let meant = near_key(host, hosts.iter()).map(|near| format!("; did you mean {near}?"));
        Ok(Answer::Done(format!(
            "{text}; no agent there has offered anything yet{}",
            meant.unwrap_or_default()
        )))
    }

    fn set_quota(&mut self, role: String, amounts: Option<Amounts>) -> Answer {
        // A quantity that is not named keeps its limit.
        let known = self.state.quotas.get(&role).copied();
        let amounts = amounts.map(|given| known.map_or(given, |known| given.or(known)));
        let text = match &amounts {
            Some(amounts) => format!("{role} may have {amounts}"),
            None => format!("{role} may have everything"),
        };
        let [cpus, mem, disk, gpus] = amounts.unwrap_or_default().each();
        self.fact(Kind::Quota(wire::Quota {
            role,
            cpus,
            mem,
            disk,
            gpus,
            is_removed: amounts.is_none(),
        }));
        Answer::Done(text)
    }

    fn add_version(
        &mut self,
        key: &str,
        version: u32,
        job: &Job,
        is_current: bool,
    ) -> Result<(), Refusal> {
        let config = serde_json::to_string(job)
            .map_err(|error| Refusal::new(RefusalKind::Invalid, error.to_string()))?;
        self.fact(Kind::Version(Version {
            job: key.to_owned(),
            version,
            config,
            is_current,
        }));
        Ok(())
    }
}

/// Whether a job's versions run the same as another configuration. Worked out once for all
/// instances, unless the job uses its instance number.
#[derive(Default)]
struct SameSpec(BTreeMap<u32, bool>);

impl SameSpec {
    fn holds(&mut self, known: &JobState, from: u32, job: &Job, number: u32) -> bool {
        let Some(version) = known.versions.get(&from) else {
            return false;
        };
        let is_by_number = |job: &Job| job.task.contains("mesos.instance");
        if is_by_number(job) || is_by_number(&version.config) {
            return job.runs_same(&version.config, number);
        }
        let known = self.0.entry(from);
        *known.or_insert_with(|| job.runs_same(&version.config, number))
    }
}

fn next_version(job: &JobState) -> u32 {
    let last = job.versions.keys().next_back().copied().unwrap_or(0);
    let target = job.update.as_ref().map_or(0, |update| update.version);
    last.max(target) + 1
}

fn check_instances(job: &JobState, numbers: &BTreeSet<u32>) -> Result<(), Refusal> {
    let is_there = |number: &u32| {
        job.instances
            .get(number)
            .is_some_and(|one| one.wanted.is_some())
    };
    match numbers.iter().find(|number| !is_there(number)) {
        None => Ok(()),
        Some(number) => {
            let all: Vec<u32> = job.instances.keys().copied().collect();
            let span = match (all.first(), all.last()) {
                (Some(first), Some(last)) => format!("they go from {first} to {last}"),
                _ => "there are none".to_owned(),
            };
            Err(Refusal::new(
                RefusalKind::Unknown,
                format!("there is no instance {number}"),
            )
            .hint(span))
        }
    }
}

fn summary(changes: &[Change], job: &JobState) -> String {
    let count = |of: &dyn Fn(&Change) -> bool| changes.iter().filter(|one| of(one)).count() as u32;
    let removed = count(&|one| one.is_removal);
    let added = count(&|one| !one.is_removal && one.from.is_none());
    let changed = changes.len() as u32 - removed - added;
    let same = (job.wanted() as u32).saturating_sub(changed + removed);
    let mut words = Vec::new();
    for (number, word) in [
        (changed, "to change"),
        (added, "to add"),
        (removed, "to remove"),
        (same, "unchanged"),
    ] {
        if number > 0 {
            words.push(format!("{number} {word}"));
        }
    }
    words.join(", ")
}

pub(super) fn instances(count: u32) -> String {
    match count {
        1 => "1 instance".to_owned(),
        count => format!("{count} instances"),
    }
}
