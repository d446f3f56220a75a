//! `dewar schema`, `dewar completions` and `dewar man`: files about dewar that other programs read.

use std::{fs, io, path::PathBuf};

use clap::{Args, Command};

use crate::{
    cli::{
        failure::{Code, Failure, Outcome},
        terminal::put,
    },
    config::{job_schema, json_schema},
    engine::history::output_schema,
};

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Of job files
    #[arg(long)]
    pub job: bool,
    /// Of what status, run, attach and explain print with --format json
    #[arg(long, conflicts_with = "job")]
    pub output: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where all pages go
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

pub(crate) fn schema(args: &SchemaArgs) -> Outcome {
    let schema = match (args.job, args.output) {
        (true, _) => job_schema(),
        (_, true) => output_schema(),
        (false, false) => json_schema(),
    };
    let text = serde_json::to_string_pretty(&schema).map_err(Failure::internal)? + "\n";
    put(&mut io::stdout(), text.as_bytes());
    Ok(Code::Success)
}

/// Completions of `command`, which is dewar as a whole.
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "dewar", &mut text);
    put(&mut io::stdout(), &text);
    Ok(Code::Success)
}

/// Manual pages of `command`, which is dewar as a whole: its own, or into a directory those of all
/// verbs.
pub(crate) fn man(args: &ManArgs, command: Command) -> Outcome {
    let Some(directory) = &args.directory else {
        let mut text = Vec::new();
        let page = clap_mangen::Man::new(command);
        page.render(&mut text).map_err(Failure::internal)?;
        put(&mut io::stdout(), &text);
        return Ok(Code::Success);
    };
    let unable = |error: io::Error| Failure::rejected(format!("{}: {error}", directory.display()));
    fs::create_dir_all(directory).map_err(unable)?;
    clap_mangen::generate_to(command, directory).map_err(unable)?;
    Ok(Code::Success)
}
