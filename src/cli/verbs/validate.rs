//! `dewar validate`: prints every mistake in a task file, with its place, and what could be better.
//! It writes nothing.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;

use crate::{
    cli::{
        failure::{Code, Outcome},
        flags::BindingArgs,
        task_file::{TaskFile, hostname},
        terminal::{harmless, print},
    },
    config::Bindings,
    sandbox::Account,
};

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The task file, YAML or JSON; - for standard input
    pub file: PathBuf,
    #[command(flatten)]
    pub bindings: BindingArgs,
}

pub(crate) fn validate(args: &ValidateArgs) -> Outcome {
    let file = TaskFile::read(&args.file, &args.bindings)?;
    let bindings = trial_bindings(&file, &args.bindings);
    let resolved = file.resolve(&bindings)?;
    file.show(&resolved.hints);
    print(&format!(
        "{}: task `{}` is valid ({} processes)",
        args.file.display(),
        harmless(&resolved.task.name),
        resolved.task.processes.len()
    ));
    Ok(Code::Success)
}

/// Values for all templates, without allocating anything: ports that are not given get small
/// numbers, which are valid and never allocated.
pub(super) fn trial_bindings(file: &TaskFile, args: &BindingArgs) -> Bindings {
    let mut ports: BTreeMap<String, u16> = file.ports().into_iter().zip(1..).collect();
    ports.extend(args.ports.iter().cloned());
    Bindings {
        task_id: format!("{}-00000000-000000.000000", file.name()),
        user: Account::own().name,
        instance: 0,
        hostname: hostname(),
        ports,
        sets: args.sets.iter().cloned().collect(),
    }
}
