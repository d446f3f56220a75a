//! What a launch promises, against what the task was promised and what its keeper can carry out.
//!
//! Invariant: a launch that goes to the keeper has nothing in it that the keeper would drop in
//! silence. What an older version only recorded is not enforced; what this keeper cannot enforce
//! makes a failed launch, or, where the task says `best_effort`, a notice. The machine's own
//! ability is the keeper's to find out.

use crate::{
    engine::{
        history::Held,
        ipc::{drop_needs, needs_of},
    },
    journal::{Feature, Features},
    protocols::dewar::link::Launch,
};

/// What bounds the launches of a task beside what it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    /// How far the task is held to `resources` of its processes.
    pub held: Held,
    /// What the keeper can carry out.
    pub can: Features,
}

/// Makes `launch` one that this keeper can carry out, or one that it refuses. `best_effort` is what
/// the process says of its own limits. Returns what is not enforced, for people.
pub(super) fn keep_promises(launch: &mut Launch, bound: Bound, best_effort: bool) -> Vec<String> {
    let mut lifted = Vec::new();
    match (bound.held, &mut launch.limits) {
        (Held::NotAtAll, Some(_)) => {
            launch.limits = None;
            lifted.push(format!(
                "not enforced: {}: the version of dewar that began this task only recorded them",
                Feature::Resources.name()
            ));
        }
        (Held::AsFarAsPossible, Some(limits)) => limits.best_effort = true,
        _ => {}
    }
    let missing = needs_of(launch).without(bound.can);
    let may_lack = |feature: &Feature| match feature {
        Feature::Resources => launch.limits.is_some_and(|limits| limits.best_effort),
        Feature::ProcessLimits => best_effort,
        Feature::TaskLimits => launch.task_limits.is_some_and(|limits| limits.best_effort),
        Feature::Private | Feature::FinalWait => false,
    };
    let spared: Features = missing.each().filter(may_lack).collect();
    drop_needs(launch, spared);
    lifted.extend(spared.each().map(|feature| {
        let what = feature.name();
        format!("not enforced: {what}: this task's keeper is of an older version")
    }));
    let refused = missing.without(spared);
    if !refused.is_empty() {
        launch.refusal.get_or_insert_with(|| refusal(refused));
        drop_needs(launch, refused);
    }
    lifted
}

/// Why a launch needs another keeper.
fn refusal(missing: Features) -> String {
    format!(
        "this task's keeper is of an older version of dewar, which cannot enforce {missing}: a task \
         (or an executor) that begins now has a keeper that can"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::dewar::link::{Limits, Private, Rlimit};

    fn full() -> Launch {
        Launch {
            limits: Some(Limits::default()),
            task_limits: Some(Limits::default()),
            rlimits: vec![Rlimit::default()],
            private: Some(Private::default()),
            ..Launch::default()
        }
    }

    fn bound(held: Held, can: &[u32]) -> Bound {
        Bound {
            held,
            can: Features::of_numbers(can),
        }
    }

    #[test]
    fn a_keeper_that_can_gets_the_launch_as_it_is() {
        let mut launch = full();
        let lifted = keep_promises(&mut launch, bound(Held::Fully, &[1, 2, 3, 4]), false);
        assert_eq!((launch, lifted), (full(), Vec::new()));
    }

    #[test]
    fn a_launch_that_needs_more_than_its_keeper_can_is_refused_and_says_why() {
        let of_launches = needs_of(&full());
        for feature in of_launches.each() {
            let can: Vec<u32> = Features::all().numbers();
            let can: Vec<u32> = can.into_iter().filter(|n| *n != feature.number()).collect();
            let mut launch = full();
            let lifted = keep_promises(&mut launch, bound(Held::Fully, &can), false);
            assert!(lifted.is_empty(), "{lifted:?}");
            let why = launch.refusal.clone().unwrap();
            assert!(why.contains(feature.name()), "{why}");
            assert!(!needs_of(&launch).has(feature), "it would be dropped");
        }
    }

    #[test]
    fn best_effort_is_told_and_goes_on() {
        let mut launch = full();
        launch.private = None;
        launch.limits = Some(Limits {
            best_effort: true,
            ..Limits::default()
        });
        launch.task_limits = launch.limits;
        let lifted = keep_promises(&mut launch, bound(Held::Fully, &[]), true);
        assert_eq!(launch, Launch::default());
        assert_eq!(lifted.len(), 3, "{lifted:?}");
    }

    #[test]
    fn what_was_only_recorded_is_not_enforced_and_what_is_not_known_is_not_refused() {
        let limited = || Launch {
            limits: Some(Limits::default()),
            ..Launch::default()
        };
        let mut launch = limited();
        let lifted = keep_promises(&mut launch, bound(Held::NotAtAll, &[1, 2, 3, 4]), false);
        assert_eq!(launch, Launch::default());
        assert!(lifted[0].contains("only recorded"), "{lifted:?}");
        let mut launch = limited();
        let lifted = keep_promises(&mut launch, bound(Held::AsFarAsPossible, &[1]), false);
        assert!(launch.limits.unwrap().best_effort && lifted.is_empty());
        let mut launch = limited();
        let lifted = keep_promises(&mut launch, bound(Held::AsFarAsPossible, &[]), false);
        assert_eq!((launch.refusal, launch.limits), (None, None));
        assert_eq!(lifted.len(), 1, "{lifted:?}");
    }
}
