//! Arguments that several verbs share, and how their values are read.

use clap::{Args, ValueEnum};

use crate::task::Level;

/// Options that give values to the templates of a task file.
#[derive(Debug, Args)]
pub(super) struct BindingArgs {
    /// Of several tasks in the file, the one to use
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    /// Bind a template variable
    // -E is how Thermos spelt it.
    #[arg(long = "set", short_alias = 'E', value_name = "NAME=VALUE", value_parser = pair)]
    pub sets: Vec<(String, String)>,
    /// Give a named port; one that is not given is allocated
    // -P NAME:PORT is how Thermos spelt it.
    #[arg(long = "port", short_alias = 'P', value_name = "NAME=NUMBER", value_parser = port)]
    pub ports: Vec<(String, u16)>,
}

/// Options for the limits and the isolation of a task.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct BoundArgs {
    /// How far the task is kept from this machine: directory or private [default: what the file
    /// says]
    #[arg(long, value_name = "LEVEL")]
    pub isolation: Option<Level>,
    /// Hold the task as a whole to its `resources`
    #[arg(long)]
    pub enforce_task: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// live on a terminal, else plain
    Auto,
    /// A table that redraws itself
    Live,
    /// One line an event
    Plain,
    /// One JSON object an event
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StatusFormat {
    /// Text for people
    Text,
    /// One JSON object
    Json,
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    match name.is_empty() {
        true => Err("the name is empty".to_owned()),
        false => Ok((name.to_owned(), value.to_owned())),
    }
}

pub(super) fn port(text: &str) -> Result<(String, u16), String> {
    let (name, number) = match text.split_once(':') {
        Some((name, number)) if !name.contains('=') => pair(&format!("{name}={number}"))?,
        _ => pair(text)?,
    };
    match number.parse() {
        Ok(0) | Err(_) => Err(format!("{number:?} is no port number (1 to 65535)")),
        Ok(number) => Ok((name, number)),
    }
}

/// Reads seconds or a duration, and returns microseconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let period: crate::task::Period = text.parse().map_err(str::to_owned)?;
    Ok(period.as_micros())
}
