//! `dewar explain`: says why a process is in its state. It reads the journal and changes nothing.

use std::fmt::Write;

use clap::Args;

use super::restart_and_signal::unknown_process;
use crate::{
    cli::{
        failure::{Code, Failure, Outcome},
        flags::StatusFormat,
        terminal::{Style, harmless, put},
    },
    engine::{
        history::{Explanation, explain as explain_process},
        store::{Store, Stored},
    },
    sys::clock::now,
};

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The id of the task
    pub id: String,
    /// One process only
    pub process: Option<String>,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    pub format: StatusFormat,
}

pub(crate) fn explain(store: &Store, args: &ExplainArgs) -> Outcome {
    let stored = load(store, &args.id)?;
    let names: Vec<&str> = stored
        .status
        .processes
        .iter()
        .map(|process| process.name.as_str())
        .collect();
    let clock = now();
    let explanations: Vec<Explanation> = match &args.process {
        Some(name) => {
            let index = names.iter().position(|other| other == name);
            let index = index.ok_or_else(|| unknown_process(name, &names))?;
            vec![explain_process(&stored.model, &stored.status, index, clock)]
        }
        None => (0..names.len())
            .map(|index| explain_process(&stored.model, &stored.status, index, clock))
            .collect(),
    };
    let text = match args.format {
        StatusFormat::Json => {
            serde_json::to_string_pretty(&explanations).map_err(Failure::internal)? + "\n"
        }
        StatusFormat::Text => shown(&explanations, Style::of(&std::io::stdout())),
    };
    put(&mut std::io::stdout(), text.as_bytes());
    Ok(Code::Success)
}

/// Reads a task; one that never began is a failure.
pub(super) fn load(store: &Store, id: &str) -> Result<Stored, Failure> {
    let stored = store
        .load(id)
        .map_err(|error| Failure::new(Code::Failed, error))?;
    stored.ok_or_else(|| Failure::new(Code::Failed, format!("task {id:?} never began")))
}

fn shown(explanations: &[Explanation], style: Style) -> String {
    let mut text = String::new();
    for one in explanations {
        let state = style.state(one.in_words, 0);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}  {state}  {}",
            harmless(&one.name),
            harmless(&one.why)
        );
        for fact in &one.facts {
            let _ = writeln!(text, "  {}", harmless(fact));
        }
    }
    text
}
