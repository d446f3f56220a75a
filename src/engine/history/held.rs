//! What a task is held to: decided when it begins, and in its header from then on.
//!
//! Pure. A header that says nothing was written before features had numbers: versions before
//! limits recorded `resources` and did nothing, and later ones enforced them. What they did is in
//! their records. What a launch needs is not here (`engine/ipc/needs.rs`).

use crate::{
    journal::{Feature, Kind, Need, Record},
    task::{Level, Process, Resources, Task},
};

/// How far the processes of a task are held to their `resources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// As they say.
    Fully,
    /// No record shows what the version that began the task made of them, so they are enforced as
    /// far as the machine and the keeper can: a healthy task must not fail for them.
    AsFarAsPossible,
    /// An older version recorded them and enforced nothing.
    NotAtAll,
}

/// Makes what the task says a promise: its header lists what is returned, and every later version
/// holds it to that.
pub fn promise(task: &mut Task) -> Vec<Need> {
    task.held = true;
    needed(task).into_iter().map(Feature::need).collect()
}

/// The features that a task needs.
pub fn needed(task: &Task) -> Vec<Feature> {
    let of_processes = |says: fn(&Resources) -> bool| {
        let resources = task
            .processes
            .iter()
            .filter_map(|one| one.resources.as_ref());
        resources.into_iter().any(says)
    };
    let all = [
        (Feature::Resources, of_processes(Resources::need_a_group)),
        (Feature::ProcessLimits, of_processes(limits_itself)),
        (Feature::TaskLimits, task.enforce),
        (Feature::Private, task.isolation.level == Level::Private),
        (Feature::FinalWait, task.final_wait.is_some()),
    ];
    let needed = all.into_iter().filter(|(_, is_needed)| *is_needed);
    needed.map(|(feature, _)| feature).collect()
}

/// How far a task is held to what it says, as its records show.
pub fn held(task: &Task, records: &[Record]) -> Held {
    // Every version that could read these fields enforced them.
    let is_of_limits = task.enforce
        || task.isolation.level == Level::Private
        || task
            .processes
            .iter()
            .any(|process| process.resources.as_ref().is_some_and(is_newer));
    if task.held || is_of_limits {
        return Held::Fully;
    }
    let grouped = |process: u32| {
        let process: Option<&Process> = task.processes.get(process as usize);
        process.is_some_and(|process| {
            process
                .resources
                .as_ref()
                .is_some_and(Resources::need_a_group)
        })
    };
    for record in records {
        let (process, pid, group) = match &record.kind {
            Some(Kind::Start(start)) => (start.process, start.pid, &start.group),
            Some(Kind::Again(again)) => (again.process, again.pid, &again.group),
            _ => continue,
        };
        if pid != 0 && grouped(process) {
            return match group.is_empty() {
                true => Held::NotAtAll,
                false => Held::Fully,
            };
        }
    }
    Held::AsFarAsPossible
}

/// True when a process carries some of them itself.
fn limits_itself(resources: &Resources) -> bool {
    let Resources {
        rlimits,
        nice,
        oom_score_adj,
        ..
    } = resources;
    !rlimits.is_empty() || nice.is_some() || oom_score_adj.is_some()
}

/// True when there is a field in them that versions before limits did not have.
fn is_newer(resources: &Resources) -> bool {
    let before = Resources {
        cpu: resources.cpu,
        ram: resources.ram,
        disk: resources.disk,
        gpu: resources.gpu,
        ..Resources::default()
    };
    *resources != before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journal::Start,
        sys::clock::Moment,
        task::{Bytes, Isolation},
    };

    fn limited() -> Task {
        let mut process = Process::named("p".to_owned());
        process.resources = Some(Resources {
            ram: Bytes(1 << 20),
            ..Resources::default()
        });
        let other = Process::named("other".to_owned());
        Task::of("t".to_owned(), vec![other, process])
    }

    fn started(process: u32, pid: u32, group: &str) -> Record {
        let start = Start {
            process,
            pid,
            group: group.to_owned(),
            ..Start::default()
        };
        Record::new(Moment::default(), Kind::Start(start))
    }

    #[test]
    fn an_older_task_is_held_to_what_its_version_did() {
        let task = limited();
        // Processes without resources, and runs that were never forked, show nothing.
        let silent = [started(0, 7, ""), started(1, 0, "")];
        assert_eq!(held(&task, &silent), Held::AsFarAsPossible);
        assert_eq!(held(&task, &[started(1, 7, "")]), Held::NotAtAll);
        assert_eq!(held(&task, &[started(1, 7, "p-0")]), Held::Fully);
    }

    #[test]
    fn a_task_that_begins_now_is_held_to_all_that_it_says_whatever_its_runs_show() {
        let mut task = limited();
        let needs = promise(&mut task);
        assert_eq!(needs, [Feature::Resources.need()]);
        assert_eq!(held(&task, &[started(1, 7, "")]), Held::Fully);
        // It is the text of the header that says so: an older keeper writes no needs there.
        let text = serde_json::to_string(&task).unwrap();
        let read: Task = serde_json::from_str(&text).unwrap();
        assert_eq!(held(&read, &[started(1, 7, "")]), Held::Fully);
    }

    #[test]
    fn what_only_later_versions_could_read_they_enforced() {
        let mut task = limited();
        task.isolation = Isolation {
            level: Level::Private,
            ..Isolation::default()
        };
        assert_eq!(held(&task, &[started(1, 7, "")]), Held::Fully);
        let mut task = limited();
        let resources = task.processes[1].resources.as_mut().unwrap();
        resources.nice = Some(5);
        assert_eq!(held(&task, &[started(1, 7, "")]), Held::Fully);
        assert_eq!(needed(&task), [Feature::Resources, Feature::ProcessLimits]);
    }
}
