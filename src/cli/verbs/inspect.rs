//! `dewar inspect`: the task as it would run, fully resolved.

use super::validate::trial_bindings;
use crate::cli::{
    args::InspectArgs,
    failure::{Code, Failure, Outcome},
    task_file::TaskFile,
    terminal::put,
};

pub(crate) fn inspect(args: &InspectArgs) -> Outcome {
    let file = TaskFile::read(&args.file, &args.bindings)?;
    let resolved = file.resolve(&trial_bindings(&file, &args.bindings))?;
    let text = serde_json::to_string_pretty(&resolved.task)
        .map_err(|error| Failure::new(Code::Internal, error))?;
    put(&mut std::io::stdout(), (text + "\n").as_bytes());
    Ok(Code::Success)
}
