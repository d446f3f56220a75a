//! `dewar simplerun`: one command as a task, without a file.

use serde_json::json;

use super::run;
use crate::{
    cli::{
        args::{BindingArgs, RunArgs, SimplerunArgs},
        failure::Outcome,
        task_file::TaskFile,
    },
    engine::{keeper::ForkedRoot, store::Store},
};

pub(crate) fn simplerun(store: &Store, args: SimplerunArgs, root: Option<ForkedRoot>) -> Outcome {
    let process = json!({
        "name": args.name,
        "cmdline": args.command.join(" "),
        "logger": {"destination": "both"},
    });
    let mut task = json!({"name": args.name, "processes": [process]});
    if let Some(user) = &args.user {
        task["user"] = json!(user);
    }
    let args = RunArgs {
        file: "the command line".into(),
        bindings: BindingArgs {
            task: None,
            sets: args.sets,
            ports: args.ports,
        },
        id: args.id,
        sandbox: args.sandbox,
        detach: args.detach,
        preserve_env: args.preserve_env,
        bounds: args.bounds,
        format: args.format,
    };
    let file = TaskFile::of_source(&task.to_string(), &args.file, &args.bindings)?;
    run::run_file(store, &file, args, root)
}
