//! From nodes to a [`Task`]: types, defaults, required and unknown fields.
//!
//! The defaults are those of [`Task::of`]. Places of names and orders are kept for
//! `config/check.rs`, which knows what must hold between processes; here every field is looked at
//! alone.

use std::collections::BTreeMap;

use super::{
    fields::{Fields, first_line, wrong_type},
    health::health,
    isolation::{isolation, volumes},
    lifecycle::lifecycle,
    process::{after_places, process},
    resources::resources,
};
use crate::{
    config::{
        diagnostic::Diagnostics,
        table,
        text::node::{Node, Span, Value},
    },
    task::{Constraint, Level, Process, Task},
};

/// A task and the places of what [`crate::config::check`] may complain about.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub task: Task,
    pub process_spans: Vec<Span>,
    pub order_spans: Vec<(Span, Vec<Span>)>,
    /// Of the names in `after`, for every process.
    pub after_spans: Vec<BTreeMap<String, Span>>,
    pub wait_span: Span,
    pub final_wait_span: Span,
}

/// Decodes one task; what is wrong is left out of it.
pub(crate) fn decode(node: &Node, diagnostics: &mut Diagnostics) -> Option<Decoded> {
    let mut fields = Fields::of(node, &table::task::TASK, diagnostics)?;
    let mut processes = Vec::new();
    let mut process_spans = Vec::new();
    let mut after_spans = Vec::new();
    for node in process_nodes(&mut fields, diagnostics) {
        if let Some((process, span)) = process(node, diagnostics) {
            processes.push(process);
            process_spans.push(span);
            after_spans.push(after_places(node));
        }
    }
    let (constraints, order_spans) = constraints(&mut fields, diagnostics);
    let wait_span = fields.place("finalization_wait");
    let final_wait_span = fields.place("final_wait");
    let name = fields.string("name", diagnostics);
    let first = processes
        .first()
        .map(|process: &Process| process.name.clone());
    let standard = Task::of(
        name.or(first).unwrap_or_else(|| "task".to_owned()),
        processes,
    );
    let task = Task {
        constraints,
        resources: fields
            .take("resources")
            .and_then(|node| resources(node, false, diagnostics)),
        isolation: isolation(&mut fields, diagnostics),
        volumes: volumes(&mut fields, diagnostics),
        max_failures: fields
            .count("max_failures", diagnostics)
            .unwrap_or(standard.max_failures),
        max_concurrency: fields
            .count("max_concurrency", diagnostics)
            .unwrap_or(standard.max_concurrency),
        finalization_wait: fields
            .period("finalization_wait", diagnostics)
            .unwrap_or(standard.finalization_wait),
        final_wait: fields.period("final_wait", diagnostics),
        user: fields.string("user", diagnostics),
        health: fields
            .take("health")
            .and_then(|node| health(node, diagnostics)),
        lifecycle: fields
            .take("lifecycle")
            .and_then(|node| lifecycle(node, diagnostics)),
        ..standard
    };
    if !task.volumes.is_empty() && task.isolation.level == Level::Directory {
        diagnostics
            .warning(
                &first_line(&fields.place("volumes")),
                "`volumes` mean something in a private task only",
            )
            .help("set `isolation: private`, or run it with --isolation private");
    }
    fields.finish(diagnostics);
    Some(Decoded {
        task,
        process_spans,
        order_spans,
        after_spans,
        wait_span,
        final_wait_span,
    })
}

/// The list of processes, which a task must have.
fn process_nodes<'n>(fields: &mut Fields<'n>, diagnostics: &mut Diagnostics) -> &'n [Node] {
    let Some(node) = fields.take("processes") else {
        let start = fields.span.start;
        diagnostics
            .error(&(start..start + 1), "a task needs `processes`")
            .label("`processes` is missing")
            .help("an empty list is a task that succeeds at once");
        return &[];
    };
    let Value::List(list) = &node.value else {
        wrong_type(node, "processes", "a list", diagnostics);
        return &[];
    };
    list
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
        let Some(mut fields) = Fields::of(node, &table::task::CONSTRAINT, diagnostics) else {
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
        fields.finish(diagnostics);
    }
    (constraints, spans)
}
