//! The limits and the isolation of a task as the command line gives them, and the check that this
//! machine can enforce them. The check comes before anything begins.

use super::{failure::Failure, flags::BoundArgs};
use crate::{
    resources::{DelegateError, Hierarchies, Survey, Whose, delegate, has_limits},
    task::Task,
};

impl BoundArgs {
    /// The options as words of a command line.
    pub fn words(self) -> Vec<String> {
        let level = self.isolation.map(|level| format!("--isolation={level}"));
        let enforce = self.enforce_task.then(|| "--enforce-task".to_owned());
        level.into_iter().chain(enforce).collect()
    }
}

/// Changes `task` as the options say.
pub(super) fn apply(args: BoundArgs, task: &mut Task) {
    if let Some(level) = args.isolation {
        task.isolation.level = level;
    }
    task.enforce = args.enforce_task;
}

/// Checks that the limits of `task` can be enforced by the root with the pid `root`. On a desktop
/// that takes a scope of systemd, into which the root is moved.
///
/// # Errors
/// Names every limit that cannot be enforced.
pub(super) fn check(task: &Task, id: &str, root: u32) -> Result<(), Failure> {
    if !has_limits(task) {
        return Ok(());
    }
    let (survey, asked) = look(task, id, root);
    let problems = survey.problems(task, Whose::Strict);
    if problems.is_empty() {
        return Ok(());
    }
    let mut hint =
        "see what this machine can enforce, and how to get more: dewar doctor".to_owned();
    if let Err(error) = asked {
        hint = format!("{hint}\n{error}");
    }
    Err(Failure::rejected(problems.join("\n")).hint(format!(
        "{hint}\n`best_effort: true` in `resources` runs it without what cannot be had"
    )))
}

/// As [`check`], for a task that has begun: it goes on also when a limit cannot be enforced.
pub(crate) fn make_room(task: &Task, id: &str, root: u32) {
    if has_limits(task)
        && let (_, Err(error)) = look(task, id, root)
    {
        tracing::info!("{error}");
    }
}

/// What the root can enforce. When something is missing that a scope of systemd might give, systemd
/// is asked for one first.
fn look(task: &Task, id: &str, root: u32) -> (Survey, Result<(), DelegateError>) {
    let survey = Survey::take();
    let is_wanted = !survey.problems(task, Whose::All).is_empty();
    if !is_wanted || !survey.hierarchies.could_be_delegated() {
        return (survey, Ok(()));
    }
    match delegate(&format!("dewar-{}-{root}.scope", escaped(id)), root) {
        Ok(()) => {
            let hierarchies = Hierarchies::of_process(root);
            (Survey { hierarchies }, Ok(()))
        }
        error => (survey, error),
    }
}

/// `id` with only such characters as systemd allows in the name of a unit.
fn escaped(id: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    id.chars()
        .take(150)
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect()
}
