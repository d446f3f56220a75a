//! From nodes to a [`Task`]: types, defaults, required and unknown fields.
//!
//! The defaults are Thermos'. Places of names and orders are kept for [`crate::config::check`].

use std::collections::BTreeMap;

use super::{
    fields::{Fields, first_line, wrong_type},
    health::health,
    isolation::{isolation, volumes},
    launch::{backoff, env, env_file, stop_signal, umask},
    lifecycle::lifecycle,
    logger::logger,
    resources::resources,
};
use crate::{
    config::{
        diagnostic::Diagnostics,
        text::node::{Node, Span, Value},
    },
    task::{
        Condition, Constraint, FINALIZATION_WAIT, Level, Logger, MAX_RUNS, MIN_DURATION, Period,
        Process, Task,
    },
};

pub(crate) const TASK: [&str; 12] = [
    "name",
    "processes",
    "constraints",
    "resources",
    "max_failures",
    "max_concurrency",
    "finalization_wait",
    "user",
    "health",
    "lifecycle",
    "isolation",
    "volumes",
];
pub(crate) const PROCESS: [&str; 23] = [
    "name",
    "cmdline",
    "argv",
    "shell",
    "max_failures",
    "max_runs",
    "daemon",
    "ephemeral",
    "final",
    "min_duration",
    "stop_timeout",
    "user",
    "umask",
    "working_dir",
    "env",
    "logger",
    "resources",
    "after",
    "health",
    "backoff",
    "timeout",
    "stop_signal",
    "env_file",
];

/// A task and the places of what [`crate::config::check`] may complain about.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub task: Task,
    pub process_spans: Vec<Span>,
    pub order_spans: Vec<(Span, Vec<Span>)>,
    /// Of the names in `after`, for every process.
    pub after_spans: Vec<BTreeMap<String, Span>>,
    pub wait_span: Span,
}

/// Decodes one task; what is wrong is left out of it.
pub(crate) fn decode(node: &Node, diagnostics: &mut Diagnostics) -> Option<Decoded> {
    let mut fields = Fields::of(node, "a task", diagnostics)?;
    let mut processes = Vec::new();
    let mut process_spans = Vec::new();
    let mut after_spans = Vec::new();
    match fields.take("processes") {
        None => {
            let start = fields.span.start;
            diagnostics
                .error(&(start..start + 1), "a task needs `processes`")
                .label("`processes` is missing")
                .help("an empty list is a task that succeeds at once");
        }
        Some(node) => match &node.value {
            Value::List(list) => {
                for node in list {
                    if let Some((process, span)) = process(node, diagnostics) {
                        processes.push(process);
                        process_spans.push(span);
                        after_spans.push(after_places(node));
                    }
                }
            }
            _ => wrong_type(node, "processes", "a list", diagnostics),
        },
    }
    let (constraints, order_spans) = constraints(&mut fields, diagnostics);
    let wait_span = fields.place("finalization_wait");
    let name = fields.string("name", diagnostics);
    let first = processes
        .first()
        .map(|process: &Process| process.name.clone());
    let task = Task {
        name: name.or(first).unwrap_or_else(|| "task".to_owned()),
        processes,
        constraints,
        resources: fields
            .take("resources")
            .and_then(|node| resources(node, false, diagnostics)),
        enforce: false,
        isolation: isolation(&mut fields, diagnostics),
        volumes: volumes(&mut fields, diagnostics),
        max_failures: fields.count("max_failures", diagnostics).unwrap_or(1),
        max_concurrency: fields.count("max_concurrency", diagnostics).unwrap_or(0),
        finalization_wait: fields
            .period("finalization_wait", diagnostics)
            .unwrap_or(FINALIZATION_WAIT),
        user: fields.string("user", diagnostics),
        health: fields
            .take("health")
            .and_then(|node| health(node, diagnostics)),
        check: None,
        lifecycle: fields
            .take("lifecycle")
            .and_then(|node| lifecycle(node, diagnostics)),
    };
    if !task.volumes.is_empty() && task.isolation.level == Level::Directory {
        diagnostics
            .warning(
                &first_line(&fields.place("volumes")),
                "`volumes` mean something in a private task only",
            )
            .help("set `isolation: private`, or run it with --isolation private");
    }
    fields.finish(&TASK, &[], diagnostics);
    Some(Decoded {
        task,
        process_spans,
        order_spans,
        after_spans,
        wait_span,
    })
}

fn process(node: &Node, diagnostics: &mut Diagnostics) -> Option<(Process, Span)> {
    let mut fields = Fields::of(node, "a process", diagnostics)?;
    let name_span = fields.place("name");
    let name = fields.required("name", diagnostics).unwrap_or_default();
    let argv = fields.strings("argv", diagnostics);
    let cmdline = match argv {
        Some(_) if fields.has("cmdline") => {
            let span = fields.place("argv");
            diagnostics
                .error(&span, "a process has either `cmdline` or `argv`")
                .help("`cmdline` is a script for a shell, `argv` a program with its arguments");
            fields.string("cmdline", diagnostics)
        }
        Some(_) => None,
        None => fields.required("cmdline", diagnostics),
    };
    if let Some(argv) = &argv
        && argv.first().is_none_or(|(program, _)| program.is_empty())
    {
        let span = fields.place("argv");
        diagnostics.error(&span, "`argv` needs a program to run");
    }
    let shell = fields.string("shell", diagnostics);
    if let Some(shell) = &shell {
        let span = fields.place("shell");
        if argv.is_some() {
            diagnostics
                .error(&span, "`shell` has no meaning beside `argv`")
                .help("remove it, or use `cmdline`");
        }
        if shell.split_whitespace().next().is_none() {
            diagnostics.error(&span, "`shell` needs a program to run");
        }
    }
    let resources = fields
        .take("resources")
        .and_then(|node| resources(node, true, diagnostics));
    if resources.as_ref().is_some_and(|own| own.disk.0 > 0) {
        diagnostics
            .warning(
                &first_line(&fields.place("resources")),
                "`disk` of a process is not enforced: the sandbox is the task's",
            )
            .help("`disk` of the task is, with --enforce-task");
    }
    for name in ["cmdline", "user", "working_dir", "shell"] {
        let place = fields.place(name);
        let text = node.get(name).and_then(Node::text);
        if text.is_some_and(|text| text.contains('\0')) {
            diagnostics.error(&place, format!("`{name}` contains a NUL character"));
        }
    }
    let process = Process {
        name,
        cmdline,
        argv: argv.map(|argv| argv.into_iter().map(|(text, _)| text).collect()),
        shell,
        max_failures: fields.count("max_failures", diagnostics).unwrap_or(1),
        max_runs: fields.count("max_runs", diagnostics).unwrap_or(MAX_RUNS),
        daemon: fields.boolean("daemon", diagnostics).unwrap_or(false),
        ephemeral: fields.boolean("ephemeral", diagnostics).unwrap_or(false),
        is_final: fields.boolean("final", diagnostics).unwrap_or(false),
        min_duration: fields
            .period("min_duration", diagnostics)
            .unwrap_or(MIN_DURATION),
        backoff: fields
            .take("backoff")
            .and_then(|node| backoff(node, diagnostics)),
        timeout: timeout(&mut fields, diagnostics),
        stop_signal: stop_signal(&mut fields, diagnostics),
        stop_timeout: fields.period("stop_timeout", diagnostics),
        user: fields.string("user", diagnostics),
        umask: umask(&mut fields, diagnostics),
        working_dir: fields.string("working_dir", diagnostics),
        env: env(&mut fields, diagnostics),
        env_file: env_file(&mut fields, diagnostics),
        after: after(&mut fields, diagnostics),
        health: fields
            .take("health")
            .and_then(|node| health(node, diagnostics)),
        logger: fields
            .take("logger")
            .map_or_else(Logger::default, |node| logger(node, diagnostics)),
        resources,
    };
    if let Some(backoff) = &process.backoff {
        let span = fields.place("backoff");
        if process.min_duration.as_micros() == 0 {
            diagnostics
                .error(&span, "a back-off from a `min_duration` of 0 never grows")
                .help("give it a `min_duration`: it is the first pause");
        } else if backoff.max < process.min_duration {
            diagnostics.error(&span, "`max` is less than `min_duration`, the first pause");
        }
    }
    fields.finish(&PROCESS, &[], diagnostics);
    Some((process, name_span))
}

fn timeout(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> Option<Period> {
    let place = fields.place("timeout");
    let timeout = fields.period("timeout", diagnostics)?;
    if timeout.as_micros() == 0 {
        diagnostics
            .error(&place, "a `timeout` of 0 leaves no time")
            .help("leave it out for no time-out");
    }
    Some(timeout)
}

fn after_places(node: &Node) -> BTreeMap<String, Span> {
    let Some(Value::Map(map)) = node.get("after").map(|node| &node.value) else {
        return BTreeMap::new();
    };
    let entries = map.iter();
    entries
        .map(|entry| (entry.key.clone(), entry.key_span.clone()))
        .collect()
}

fn after(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> BTreeMap<String, Condition> {
    let conditions = [
        ("started", Condition::Started),
        ("healthy", Condition::Healthy),
        ("succeeded", Condition::Succeeded),
        ("completed", Condition::Completed),
        ("failed", Condition::Failed),
    ];
    let mut after = BTreeMap::new();
    let Some(node) = fields.take("after") else {
        return after;
    };
    let Value::Map(map) = &node.value else {
        wrong_type(
            node,
            "after",
            "a map of processes and conditions",
            diagnostics,
        );
        return after;
    };
    for entry in map {
        let text = entry.node.text().unwrap_or_default();
        match conditions.iter().find(|(name, _)| *name == text) {
            Some((_, condition)) => {
                after.insert(entry.key.clone(), *condition);
            }
            None => {
                let names = conditions.map(|(name, _)| name);
                diagnostics
                    .error(&entry.node.span, format!("unknown condition `{text}`"))
                    .help(format!("there are: {}", names.join(", ")))
                    .did_you_mean(&text, names.into_iter());
            }
        }
    }
    after
}

fn constraints(
    fields: &mut Fields<'_>,
    diagnostics: &mut Diagnostics,
) -> (Vec<Constraint>, Vec<(Span, Vec<Span>)>) {
    let mut constraints = Vec::new();
    let mut spans = Vec::new();
    let Some(node) = fields.take("constraints") else {
        return (constraints, spans);
    };
    let Value::List(list) = &node.value else {
        wrong_type(node, "constraints", "a list", diagnostics);
        return (constraints, spans);
    };
    for node in list {
        let Some(mut fields) = Fields::of(node, "a constraint", diagnostics) else {
            continue;
        };
        let span = fields.place("order");
        match fields.strings("order", diagnostics) {
            Some(order) => {
                let (names, places) = order.into_iter().unzip();
                constraints.push(Constraint { order: names });
                spans.push((span, places));
            }
            None if !fields.has("order") => {
                diagnostics.error(&(span.start..span.start + 1), "a constraint needs `order`");
            }
            None => {}
        }
        fields.finish(&["order"], &[], diagnostics);
    }
    (constraints, spans)
}
