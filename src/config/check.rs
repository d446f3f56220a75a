//! What must hold between the parts of a task: names, orders, conditions, stages, cycles.
//!
//! A field alone is checked where it is decoded.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{decode::task::Decoded, diagnostic::Diagnostics, text::node::Span};
use crate::task::{Condition, Period, Process};

/// Checks names, orders and stages; complains about everything at once.
pub(super) fn check(decoded: &Decoded, diagnostics: &mut Diagnostics) {
    names(decoded, diagnostics);
    orders(decoded, diagnostics);
    let task = &decoded.task;
    let has_final = task.processes.iter().any(|process| process.is_final);
    if has_final && task.finalization_wait.as_micros() == 0 {
        diagnostics
            .error(
                &decoded.wait_span,
                "`finalization_wait` of 0 leaves final processes no time",
            )
            .help("give them some, or remove them");
    }
    final_wait(decoded, has_final, diagnostics);
}

/// What is kept for final processes is a part of the whole, and means nothing without them.
fn final_wait(decoded: &Decoded, has_final: bool, diagnostics: &mut Diagnostics) {
    let (task, place) = (&decoded.task, &decoded.final_wait_span);
    let Some(kept) = task.final_wait else { return };
    let whole = task.finalization_wait;
    if kept > whole {
        diagnostics
            .error(
                place,
                format!("`final_wait` of {kept} is more than `finalization_wait`, {whole}"),
            )
            .help("it is the part of finalization_wait that is kept for final processes");
    } else if !has_final {
        diagnostics
            .warning(place, "`final_wait` means nothing without final processes")
            .help("remove it, or set `final: true` where it belongs");
    } else if kept == whole && kept.as_micros() > 0 {
        diagnostics
            .warning(
                place,
                "`final_wait` is all of `finalization_wait`: other processes have no time to stop",
            )
            .help("make finalization_wait longer, or final_wait shorter");
    }
}

/// What could be better in a task that is right as it is.
pub(super) fn hints(decoded: &Decoded) -> Diagnostics {
    let mut hints = Diagnostics::default();
    let task = &decoded.task;
    let spans = task.processes.iter().zip(&decoded.process_spans);
    let mut finals = spans.filter(|(process, _)| process.is_final);
    if let (None, Some((process, span))) = (task.final_wait, finals.next()) {
        let half = Period::new(task.finalization_wait.duration() / 2).unwrap_or_default();
        let some = half.min(Period::from_secs(5));
        hints
            .hint(
                span,
                format!(
                    "`final_wait` is missing: `{}` is final, and never runs when another process takes all of `finalization_wait` ({}) to stop",
                    process.name, task.finalization_wait
                ),
            )
            .help(format!(
                "`final_wait: {some}` keeps that much of it for final processes"
            ));
    }
    hints
}

fn names(decoded: &Decoded, diagnostics: &mut Diagnostics) {
    let mut seen = BTreeSet::new();
    for (process, span) in decoded.task.processes.iter().zip(&decoded.process_spans) {
        let name = process.name.as_str();
        let is_bad = name.is_empty()
            || name.starts_with('.')
            || name.contains('/')
            || name.len() > 255
            || name.chars().any(char::is_control);
        if is_bad {
            diagnostics
                .error(span, format!("bad process name {name:?}"))
                .label("names a log directory: no `/`, no leading `.`, at most 255 bytes");
        } else if !seen.insert(name) {
            diagnostics
                .error(span, format!("two processes are called `{name}`"))
                .label("the second one");
        }
    }
}

/// An edge of the graph and the place of its second name.
struct Edge<'d> {
    from: &'d Process,
    to: &'d Process,
    span: &'d Span,
}

fn orders(decoded: &Decoded, diagnostics: &mut Diagnostics) {
    let processes = &decoded.task.processes;
    let by_name: HashMap<&str, &Process> = processes.iter().map(|p| (p.name.as_str(), p)).collect();
    let mut edges = Vec::new();
    for (constraint, (span, places)) in decoded.task.constraints.iter().zip(&decoded.order_spans) {
        if constraint.order.is_empty() {
            diagnostics.error(span, "an order needs at least one process");
        }
        let mut before: Option<&Process> = None;
        for (name, place) in constraint.order.iter().zip(places) {
            let Some(process) = by_name.get(name.as_str()).copied() else {
                diagnostics
                    .error(place, format!("unknown process `{name}` in an order"))
                    .did_you_mean(name, by_name.keys().copied());
                before = None;
                continue;
            };
            if let Some(from) = before {
                edges.push(Edge {
                    from,
                    to: process,
                    span: place,
                });
            }
            before = Some(process);
        }
    }
    for edge in &edges {
        check_edge(edge, diagnostics);
    }
    for (to, places) in processes.iter().zip(&decoded.after_spans) {
        for (name, condition) in &to.after {
            let Some(span) = places.get(name) else {
                continue;
            };
            match by_name.get(name.as_str()).copied() {
                Some(from) => {
                    let edge = Edge { from, to, span };
                    check_condition(&edge, *condition, diagnostics);
                    edges.push(edge);
                }
                None => {
                    diagnostics
                        .error(span, format!("unknown process `{name}` in `after`"))
                        .did_you_mean(name, by_name.keys().copied());
                }
            }
        }
    }
    cycles(&edges, diagnostics);
}

fn check_stage(edge: &Edge<'_>, diagnostics: &mut Diagnostics) {
    let (from, to) = (&edge.from.name, &edge.to.name);
    if edge.from.is_final != edge.to.is_final {
        diagnostics
            .error(
                edge.span,
                format!("`{from}` and `{to}`: an order cannot cross regular and final processes"),
            )
            .help("final processes start after all regular ones anyway");
    }
}

fn check_condition(edge: &Edge<'_>, condition: Condition, diagnostics: &mut Diagnostics) {
    check_stage(edge, diagnostics);
    let (from, to) = (&edge.from.name, &edge.to.name);
    if condition == Condition::Healthy && edge.from.health.is_none() {
        diagnostics
            .error(
                edge.span,
                format!("`{to}` waits for `{from}` to be healthy, but nothing checks it"),
            )
            .help(format!("give `{from}` a `health`"));
    }
}

fn check_edge(edge: &Edge<'_>, diagnostics: &mut Diagnostics) {
    check_stage(edge, diagnostics);
    let (from, to) = (&edge.from.name, &edge.to.name);
    if edge.from.daemon && from != to {
        diagnostics
            .error(
                edge.span,
                format!("`{to}` cannot wait for the daemon `{from}`"),
            )
            .help("a daemon never finishes");
    }
    if edge.from.ephemeral && !edge.to.ephemeral {
        diagnostics
            .error(
                edge.span,
                format!("`{to}` cannot wait for `{from}`, which is ephemeral"),
            )
            .help("only an ephemeral process can wait for an ephemeral one");
    }
}

/// Reports every cycle that a depth-first walk closes, as a → b → a, at the edge that closes it.
fn cycles(edges: &[Edge<'_>], diagnostics: &mut Diagnostics) {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        Open,
        Done,
    }
    let mut next: BTreeMap<&str, Vec<(&str, &Span)>> = BTreeMap::new();
    for edge in edges {
        let list = next.entry(&edge.from.name).or_default();
        list.push((&edge.to.name, edge.span));
    }
    let mut marks: HashMap<&str, Mark> = HashMap::new();
    for edge in edges {
        let start = edge.from.name.as_str();
        if marks.contains_key(start) {
            continue;
        }
        // An explicit stack: an order may be as long as the file.
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        marks.insert(start, Mark::Open);
        while let Some((name, child)) = path.last_mut() {
            let step = next.get(*name).and_then(|list| list.get(*child)).copied();
            *child += 1;
            let Some((to, span)) = step else {
                marks.insert(name, Mark::Done);
                path.pop();
                continue;
            };
            match marks.get(to) {
                None => {
                    marks.insert(to, Mark::Open);
                    path.push((to, 0));
                }
                Some(Mark::Open) => {
                    let names = path.iter().map(|(name, _)| *name);
                    let cycle: Vec<&str> =
                        names.skip_while(|name| *name != to).chain([to]).collect();
                    diagnostics
                        .error(span, format!("cycle: {}", cycle.join(" → ")))
                        .label("closes it");
                }
                Some(Mark::Done) => {}
            }
        }
    }
}
