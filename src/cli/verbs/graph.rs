//! `dewar graph`: prints the DAG of a task file or of a task, as text or for Graphviz.

use std::{collections::BTreeMap, fmt::Write, path::Path, time::Duration};

use clap::{Args, ValueEnum};

use super::{explain::load, validate::trial_bindings};
use crate::{
    cli::{
        failure::{Code, Failure, Outcome},
        flags::BindingArgs,
        task_file::TaskFile,
        terminal::{Style, harmless, put},
    },
    engine::{
        history::{Graph, GraphNode, InWords, ProcessState},
        store::Store,
    },
    task::Condition,
};

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// A task file (- for standard input), or the id of a task
    #[arg(value_name = "FILE|ID")]
    pub what: String,
    #[command(flatten)]
    pub bindings: BindingArgs,
    /// How to draw it
    #[arg(long, value_enum, default_value = "text")]
    pub format: GraphFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// Text for people
    Text,
    /// Input for Graphviz
    Dot,
}

pub(crate) fn graph(store: impl FnOnce() -> Result<Store, Failure>, args: &GraphArgs) -> Outcome {
    let path = Path::new(&args.what);
    let graph = match path == Path::new("-") || path.exists() {
        true => of_file(path, &args.bindings)?,
        false => {
            let store = store()?;
            let stored = load(&store, &args.what)
                .map_err(|failure| failure.hint("there is no file of this name either"))?;
            Graph::of(&stored.model.task, Some(&stored.status))
        }
    };
    let text = match args.format {
        GraphFormat::Text => text(&graph, Style::of(&std::io::stdout())),
        GraphFormat::Dot => dot(&graph),
    };
    put(&mut std::io::stdout(), text.as_bytes());
    Ok(Code::Success)
}

fn of_file(path: &Path, bindings: &BindingArgs) -> Result<Graph, Failure> {
    let file = TaskFile::read(path, bindings)?;
    let resolved = file.resolve(&trial_bindings(&file, bindings))?;
    Ok(Graph::of(&resolved.task, None))
}

fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Started => "started",
        Condition::Healthy => "healthy",
        Condition::Succeeded => "succeeded",
        Condition::Completed => "completed",
        Condition::Failed => "failed",
    }
}

/// Draws one line a process, indented by the number of processes that must come before it.
fn text(graph: &Graph, style: Style) -> String {
    let indent = |node: &GraphNode| 2 * node.depth;
    let width = graph
        .nodes
        .iter()
        .map(|node| indent(node) + node.name.chars().count());
    let width = width.max().unwrap_or_default();
    let mut text = String::new();
    for is_final in [false, true] {
        let nodes: Vec<&GraphNode> = graph
            .nodes
            .iter()
            .filter(|node| node.is_final == is_final)
            .collect();
        if is_final && !nodes.is_empty() {
            text += "then, whatever happened:\n";
        }
        for node in nodes {
            let name = format!("{}{}", " ".repeat(indent(node)), harmless(&node.name));
            let mut line = format!("  {name:width$}");
            if let Some(state) = &node.state {
                line += &format!("  {}", style.state(*state, 8));
                let took = node.took.map_or_else(String::new, seconds);
                line += &format!(" {took:>9}");
            }
            if !node.after.is_empty() {
                let after: Vec<String> = node
                    .after
                    .iter()
                    .map(|(name, until)| match until {
                        None => harmless(name),
                        Some(until) => format!("{} {}", harmless(name), condition(*until)),
                    })
                    .collect();
                line += &format!("  after {}", after.join(", "));
            }
            text += line.trim_end();
            text.push('\n');
        }
    }
    if !graph.critical.is_empty() {
        let all: Duration = graph
            .critical
            .iter()
            .map(|step| step.waited + step.took)
            .sum();
        let _ = writeln!(text, "critical path: {}", seconds(all));
        for step in &graph.critical {
            let waited = match step.waited > Duration::from_millis(1) {
                true => format!("  after waiting {}", seconds(step.waited)),
                false => String::new(),
            };
            let name = harmless(&step.name);
            let _ = writeln!(text, "  {name:width$}  {:>9}{waited}", seconds(step.took));
        }
    }
    text
}

fn seconds(duration: Duration) -> String {
    format!("{:.3}s", duration.as_secs_f64())
}

/// Draws for Graphviz: `dewar graph FILE --format dot | dot -Tsvg`.
fn dot(graph: &Graph) -> String {
    let quoted = |text: &str| {
        let text = harmless(text).replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{text}\"")
    };
    let critical: BTreeMap<&str, &str> = graph
        .critical
        .windows(2)
        .map(|pair| (pair[1].name.as_str(), pair[0].name.as_str()))
        .collect();
    let mut text = "digraph task {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    for node in &graph.nodes {
        let took = node.took.map(seconds);
        let state = node.state.map(|state| state.to_string());
        let below: Vec<String> = state.into_iter().chain(took).collect();
        let label = match below.is_empty() {
            true => quoted(&node.name),
            // \n is Graphviz' own line break, so it is added after quoting.
            false => {
                let name = quoted(&node.name);
                format!("{}\\n{}\"", &name[..name.len() - 1], below.join(" "))
            }
        };
        let style = if node.is_final { ", style=dashed" } else { "" };
        let colour = match node.state {
            Some(InWords::State(ProcessState::Success)) => ", color=green4",
            Some(InWords::State(ProcessState::Failed | ProcessState::Lost)) => ", color=red3",
            Some(InWords::State(ProcessState::Running | ProcessState::Forked)) => ", color=cyan4",
            Some(InWords::State(ProcessState::Killed) | InWords::Stopped(_)) => ", color=orange3",
            Some(InWords::State(ProcessState::Waiting) | InWords::Skipped) | None => "",
        };
        let _ = writeln!(
            text,
            "  {} [label={label}{style}{colour}];",
            quoted(&node.name)
        );
    }
    for node in &graph.nodes {
        for (other, until) in &node.after {
            let mut attributes: Vec<String> = Vec::new();
            if let Some(until) = until {
                attributes.push(format!("label=\"{}\"", condition(*until)));
            }
            if critical.get(node.name.as_str()) == Some(&other.as_str()) {
                attributes.push("penwidth=3".to_owned());
            }
            let attributes = match attributes.is_empty() {
                true => String::new(),
                false => format!(" [{}]", attributes.join(", ")),
            };
            let _ = writeln!(
                text,
                "  {} -> {}{attributes};",
                quoted(other),
                quoted(&node.name)
            );
        }
    }
    text += "}\n";
    text
}
