//! What dewar says about itself: `schema`, `completions`, `man`.

use std::{fs, io};

use clap::CommandFactory;

use crate::{
    cli::{
        args::{Cli, CompletionsArgs, ManArgs, SchemaArgs},
        failure::{Code, Failure, Outcome},
        terminal::put,
    },
    config::{job_schema, json_schema},
    engine::history::output_schema,
};

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

pub(crate) fn completions(args: &CompletionsArgs) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dewar", &mut text);
    put(&mut io::stdout(), &text);
    Ok(Code::Success)
}

/// One page for dewar and one for every verb, as man wants them.
pub(crate) fn man(args: &ManArgs) -> Outcome {
    let command = Cli::command();
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
