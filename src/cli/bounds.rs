//! What a task may use and see, from the command line; and whether this machine can give that, before
//! anything begins.

use super::{args::BoundArgs, failure::Failure};
use crate::{
    config::Task,
    resources::{Site, Survey, delegate, has_limits},
};

impl BoundArgs {
    /// As they are written on a command line.
    pub fn words(self) -> Vec<String> {
        let level = self.isolation.map(|level| format!("--isolation={level}"));
        let enforce = self.enforce_task.then(|| "--enforce-task".to_owned());
        level.into_iter().chain(enforce).collect()
    }
}

/// Lets the command line have its say.
pub(super) fn apply(args: BoundArgs, task: &mut Task) {
    if let Some(level) = args.isolation {
        task.isolation.level = level;
    }
    task.enforce = args.enforce_task;
}

/// Checks that the limits of `task` can be had by a root that is the process `root`. On a desktop that takes a
/// scope of systemd's, into which the root is moved.
///
/// # Errors
/// Every limit that cannot be had.
pub(super) fn check(task: &Task, id: &str, root: u32) -> Result<(), Failure> {
    if !has_limits(task) {
        return Ok(());
    }
    let survey = Survey::take();
    let mut problems = survey.problems(task);
    if problems.is_empty() {
        return Ok(());
    }
    let mut hint =
        "see what this machine can enforce, and how to get more: dewar doctor".to_owned();
    if survey.site.could_be_delegated() {
        match delegate(&format!("dewar-{}.scope", escaped(id)), root) {
            Ok(()) => {
                let site = Site::of_process(root);
                problems = Survey { site }.problems(task);
            }
            Err(error) => hint = format!("{hint}\n{error}"),
        }
    }
    match problems.as_slice() {
        [] => Ok(()),
        problems => Err(Failure::rejected(problems.join("\n")).hint(format!(
            "{hint}\n`best_effort: true` in `resources` runs it without what cannot be had"
        ))),
    }
}

/// What systemd takes as the name of a unit.
fn escaped(id: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    id.chars()
        .take(150)
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect()
}
