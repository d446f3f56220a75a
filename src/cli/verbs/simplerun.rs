//! `dewar simplerun`: runs one command as a task, without a task file.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::run::{self, RunArgs};
use crate::{
    cli::{
        failure::Outcome,
        flags::{BindingArgs, BoundArgs, Format, pair, port},
        task_file::TaskFile,
    },
    engine::{keeper::ForkedRoot, store::Store},
};

#[derive(Debug, Args)]
pub(crate) struct SimplerunArgs {
    /// What is run
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<String>,
    /// The name of the task and its process
    #[arg(long, default_value = "simple")]
    pub name: String,
    /// Who runs it [default: you]
    #[arg(long)]
    pub user: Option<String>,
    /// Bind a template variable
    #[arg(long = "set", short_alias = 'E', value_name = "NAME=VALUE", value_parser = pair)]
    pub sets: Vec<(String, String)>,
    /// Give a named port; one that is not given is allocated
    #[arg(long = "port", short_alias = 'P', value_name = "NAME=NUMBER", value_parser = port)]
    pub ports: Vec<(String, u16)>,
    /// The task's id [default: NAME-YYYYmmdd-HHMMSS.usec]
    #[arg(long, alias = "task_id", value_name = "ID")]
    pub id: Option<String>,
    /// The sandbox's directory; used as it is when it exists
    #[arg(long, value_name = "DIR")]
    pub sandbox: Option<PathBuf>,
    /// Return as soon as the task is on its way
    #[arg(long, alias = "daemon")]
    pub detach: bool,
    /// Give it this environment too
    #[arg(long)]
    pub preserve_env: bool,
    #[command(flatten)]
    pub bounds: BoundArgs,
    /// How to show what happens
    #[arg(long, value_enum, default_value = "auto")]
    pub format: Format,
}

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
