//! From nodes to a [`Process`]: types, defaults, required and unknown fields.
//!
//! The defaults are those of [`Process::named`]. A process is decoded alone: whether its name is
//! free, and whether the processes that it waits for are there, is for `config/check.rs` to say.

use std::collections::BTreeMap;

use super::{
    fields::{Fields, first_line, wrong_type},
    health::health,
    launch::{backoff, env, env_file, stop_signal, umask},
    logger::logger,
    resources::resources,
};
use crate::{
    config::{
        diagnostic::Diagnostics,
        table,
        text::node::{Node, Span, Value},
    },
    task::{Condition, Period, Process, Resources},
};

/// What a process runs: a script for a shell, or a program with its arguments.
struct Program {
    cmdline: Option<String>,
    argv: Option<Vec<String>>,
    shell: Option<String>,
}

/// One process, and the place of its name.
pub(super) fn process(node: &Node, diagnostics: &mut Diagnostics) -> Option<(Process, Span)> {
    let mut fields = Fields::of(node, &table::task::PROCESS, diagnostics)?;
    let name_span = fields.place("name");
    let name = fields.required("name", diagnostics).unwrap_or_default();
    let Program {
        cmdline,
        argv,
        shell,
    } = program(&mut fields, diagnostics);
    let resources = limits(&mut fields, diagnostics);
    refuse_nul(node, &fields, diagnostics);
    let standard = Process::named(name);
    let mut count = |name: &str, default| fields.count(name, diagnostics).unwrap_or(default);
    let max_failures = count("max_failures", standard.max_failures);
    let max_runs = count("max_runs", standard.max_runs);
    let mut flag = |name: &str, default| fields.boolean(name, diagnostics).unwrap_or(default);
    let daemon = flag("daemon", standard.daemon);
    let ephemeral = flag("ephemeral", standard.ephemeral);
    let is_final = flag("final", standard.is_final);
    let process = Process {
        cmdline,
        argv,
        shell,
        max_failures,
        max_runs,
        daemon,
        ephemeral,
        is_final,
        min_duration: fields
            .period("min_duration", diagnostics)
            .unwrap_or(standard.min_duration),
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
            .map_or(standard.logger, |node| logger(node, diagnostics)),
        resources,
        name: standard.name,
    };
    check_backoff(&process, &fields, diagnostics);
    fields.finish(diagnostics);
    Some((process, name_span))
}

fn program(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> Program {
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
    Program {
        cmdline,
        argv: argv.map(|argv| argv.into_iter().map(|(text, _)| text).collect()),
        shell,
    }
}

fn limits(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> Option<Resources> {
    let resources = fields
        .take("resources")
        .and_then(|node| resources(node, true, diagnostics))?;
    if resources.disk.0 > 0 {
        diagnostics
            .warning(
                &first_line(&fields.place("resources")),
                "`disk` of a process is not enforced: the sandbox is the task's",
            )
            .help("`disk` of the task is, with --enforce-task");
    }
    Some(resources)
}

/// The kernel's strings end at a NUL, so none can be within them.
fn refuse_nul(node: &Node, fields: &Fields<'_>, diagnostics: &mut Diagnostics) {
    for name in ["cmdline", "user", "working_dir", "shell"] {
        let text = node.get(name).and_then(Node::text);
        if text.is_some_and(|text| text.contains('\0')) {
            let place = fields.place(name);
            diagnostics.error(&place, format!("`{name}` contains a NUL character"));
        }
    }
}

fn check_backoff(process: &Process, fields: &Fields<'_>, diagnostics: &mut Diagnostics) {
    let Some(backoff) = &process.backoff else {
        return;
    };
    let span = fields.place("backoff");
    if process.min_duration.as_micros() == 0 {
        diagnostics
            .error(&span, "a back-off from a `min_duration` of 0 never grows")
            .help("give it a `min_duration`: it is the first pause");
    } else if backoff.max < process.min_duration {
        diagnostics.error(&span, "`max` is less than `min_duration`, the first pause");
    }
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

/// Where each name in `after` is.
pub(super) fn after_places(node: &Node) -> BTreeMap<String, Span> {
    let Some(Value::Map(map)) = node.get("after").map(|node| &node.value) else {
        return BTreeMap::new();
    };
    let entries = map.iter();
    entries
        .map(|entry| (entry.key.clone(), entry.key_span.clone()))
        .collect()
}

/// What must be true of which other process.
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
