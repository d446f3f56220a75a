//! `dewar inspect`: prints a task as it would run, with all templates and defaults resolved.

use std::path::PathBuf;

use clap::Args;

use super::validate::trial_bindings;
use crate::cli::{
    failure::{Code, Failure, Outcome},
    flags::BindingArgs,
    task_file::TaskFile,
    terminal::put,
};

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The task file, YAML or JSON; - for standard input
    pub file: PathBuf,
    #[command(flatten)]
    pub bindings: BindingArgs,
}

pub(crate) fn inspect(args: &InspectArgs) -> Outcome {
    let file = TaskFile::read(&args.file, &args.bindings)?;
    let resolved = file.resolve(&trial_bindings(&file, &args.bindings))?;
    let text = serde_json::to_string_pretty(&resolved.task.as_written())
        .map_err(|error| Failure::new(Code::Internal, error))?;
    put(&mut std::io::stdout(), (text + "\n").as_bytes());
    Ok(Code::Success)
}
