//! Quotas of roles: what the jobs of a role may use together, and what they use.

use super::{
    amounts::{Amounts, NAMES, shown},
    core::SchedulerCore,
    request::{Refusal, RefusalKind},
    state::JobState,
};
use crate::{protocols::dewar::scheduler::Change, task::Job};

impl SchedulerCore {
    /// What all jobs of a role use, without the job with this key.
    fn others(&self, role: &str, key: &str) -> Amounts {
        let jobs = self.state.jobs.iter();
        let others = jobs.filter(|(other, job)| {
            let is_role = job
                .current()
                .is_some_and(|version| version.config.role == role);
            is_role && &***other != key
        });
        others.fold(Amounts::default(), |all, (_, job)| all + job_amounts(job))
    }

    pub(super) fn check_quota(
        &self,
        role: &str,
        key: &str,
        wanted: Amounts,
    ) -> Result<(), Refusal> {
        let Some(quota) = self.state.quotas.get(role) else {
            return Ok(());
        };
        let others = self.others(role, key);
        let all = others + wanted;
        // A quota below what the jobs use already does not forbid to use less.
        let has = self
            .state
            .jobs
            .get(key)
            .map(job_amounts)
            .unwrap_or_default();
        let over: Vec<String> = (0..NAMES.len())
            .filter(|index| {
                let grows = wanted.each()[*index] > has.each()[*index];
                grows && all.each()[*index] > quota.each()[*index]
            })
            .map(|index| {
                let each = |amounts: Amounts| shown(index, amounts.each()[index]);
                format!(
                    "{}: {} of {key} and {} of other jobs are {}, the quota is {}",
                    NAMES[index],
                    each(wanted),
                    each(others),
                    each(all),
                    each(*quota)
                )
            })
            .collect();
        match over.is_empty() {
            true => Ok(()),
            false => {
                let text = format!("the quota of {role} is exceeded: {}", over.join("; "));
                Err(Refusal::new(RefusalKind::Quota, text)
                    .hint("dewar job quota shows and changes it"))
            }
        }
    }
}

/// What the instances of a job use together, as they are wanted. An instance that an update changes
/// counts with the larger of its versions.
pub(super) fn job_amounts(job: &JobState) -> Amounts {
    let instances = job.instances.values();
    let mut all = instances.fold(Amounts::default(), |all, one| {
        all + job.amounts_of(one.wanted)
    });
    if let Some(update) = job.active_update() {
        for (number, change) in &update.changes {
            let now = job.amounts_of(job.instances.get(number).and_then(|one| one.wanted));
            let most = job.amounts_of(change.from).most(job.amounts_of(change.to));
            all = all.less(now) + now.most(most);
        }
    }
    all
}

/// The most that a job uses during such an update: of each instance the larger version.
pub(super) fn job_amounts_during(known: &JobState, job: &Job, changes: &[Change]) -> Amounts {
    let new = Amounts::of_job(job);
    let mut all = job_amounts(known);
    for change in changes.iter().filter(|change| !change.is_removal) {
        let old = known.amounts_of(change.from);
        all = all.less(old) + old.most(new);
    }
    all
}
