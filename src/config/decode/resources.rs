//! What a process or a task may use: `resources`.

use std::collections::BTreeMap;

use super::fields::{Fields, number, wrong_type};
use crate::{
    config::{
        diagnostic::Diagnostics,
        table::resources::{LIMITS, OF_ONE_PROCESS, RESOURCES, RLIMIT},
        text::node::{Node, Value},
    },
    task::{Bytes, Resources, Rlimit, Rlimits},
};

/// The range that cgroup v2 has for weights.
const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;

/// Decodes the `resources` of a process (which may have more) or of a task.
pub(super) fn resources(
    node: &Node,
    of_process: bool,
    diagnostics: &mut Diagnostics,
) -> Option<Resources> {
    let table = if of_process { &LIMITS } else { &RESOURCES };
    let mut fields = Fields::of(node, table, diagnostics)?;
    let mut resources = Resources {
        cpu: fields.real("cpu", diagnostics).unwrap_or_default(),
        ram: fields.bytes("ram", diagnostics).unwrap_or_default(),
        disk: fields.bytes("disk", diagnostics).unwrap_or_default(),
        gpu: fields.count("gpu", diagnostics).unwrap_or_default(),
        cpu_weight: weight(&mut fields, "cpu_weight", diagnostics),
        ram_high: fields.bytes("ram_high", diagnostics),
        swap: fields.bytes("swap", diagnostics),
        pids: pids(&mut fields, diagnostics),
        io_weight: weight(&mut fields, "io_weight", diagnostics),
        rlimits: Rlimits::default(),
        nice: None,
        oom_score_adj: None,
        best_effort: fields.boolean("best_effort", diagnostics).unwrap_or(false),
    };
    if of_process {
        resources.rlimits = rlimits(&mut fields, diagnostics);
        resources.nice = whole(&mut fields, "nice", -20..=19, diagnostics);
        resources.oom_score_adj = whole(&mut fields, "oom_score_adj", -1000..=1000, diagnostics);
    }
    let high = resources.ram_high.unwrap_or_default();
    if resources.ram.0 > 0 && high > resources.ram {
        diagnostics
            .error(&fields.place("ram_high"), "`ram_high` is above `ram`")
            .help("it is where the kernel begins to slow the process down; `ram` is the end");
    }
    if !of_process {
        for row in &OF_ONE_PROCESS {
            let name = row.name;
            if let Some(node) = fields.take_misplaced(name) {
                diagnostics
                    .error(&node.span, format!("`{name}` is a process' own"))
                    .help("move it to the `resources` of a process");
            }
        }
    }
    fields.finish(diagnostics);
    Some(resources)
}

fn weight(
    fields: &mut Fields<'_>,
    name: &'static str,
    diagnostics: &mut Diagnostics,
) -> Option<u32> {
    let weight = fields.count(name, diagnostics)?;
    if !WEIGHTS.contains(&weight) {
        diagnostics
            .error(&fields.place(name), format!("`{name}` is out of range"))
            .label("from 1 to 10000; 100 is the default");
    }
    Some(weight)
}

fn pids(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> Option<u32> {
    let pids = fields.count("pids", diagnostics)?;
    if pids == 0 {
        diagnostics
            .error(&fields.place("pids"), "`pids` of 0 lets nothing run")
            .help("leave it out for no limit");
    }
    Some(pids)
}

/// A whole number that may be negative.
fn whole(
    fields: &mut Fields<'_>,
    name: &'static str,
    range: std::ops::RangeInclusive<i32>,
    diagnostics: &mut Diagnostics,
) -> Option<i32> {
    let node = fields.take(name)?;
    let Some(value) = node.text().as_deref().and_then(number) else {
        wrong_type(node, name, "a whole number", diagnostics);
        return None;
    };
    let value = value.trunc().clamp(i32::MIN.into(), i32::MAX.into()) as i32;
    if !range.contains(&value) {
        diagnostics
            .error(&node.span, format!("`{name}` is out of range"))
            .label(format!("from {} to {}", range.start(), range.end()));
    }
    Some(value)
}

/// A map of names, as `ulimit` and systemd know them, and limits.
fn rlimits(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> Rlimits {
    let mut limits = BTreeMap::new();
    let Some(node) = fields.take("rlimits") else {
        return Rlimits::default();
    };
    let Value::Map(map) = &node.value else {
        wrong_type(node, "rlimits", "a map of names and limits", diagnostics);
        return Rlimits::default();
    };
    for entry in map {
        let name = entry.key.to_ascii_lowercase();
        let name = name.strip_prefix("rlimit_").unwrap_or(&name);
        if !Rlimits::NAMES.contains(&name) {
            diagnostics
                .error(&entry.key_span, format!("unknown limit `{}`", entry.key))
                .help(format!("there are: {}", Rlimits::NAMES.join(", ")))
                .did_you_mean(name, Rlimits::NAMES.into_iter());
            continue;
        }
        if let Some(limit) = rlimit(&entry.node, &entry.key, diagnostics) {
            limits.insert(name.to_owned(), limit);
        }
    }
    Rlimits(limits)
}

/// One limit for both, or `{soft, hard}`.
fn rlimit(node: &Node, name: &str, diagnostics: &mut Diagnostics) -> Option<Rlimit> {
    if !matches!(node.value, Value::Map(_)) {
        let both = bound(node, name, diagnostics)?;
        return Some(Rlimit {
            soft: both,
            hard: both,
        });
    }
    let mut fields = Fields::of(node, &RLIMIT, diagnostics)?;
    let mut one = |part: &'static str, diagnostics: &mut Diagnostics| {
        fields
            .take(part)
            .and_then(|node| bound(node, name, diagnostics))
    };
    let (soft, hard) = (one("soft", diagnostics), one("hard", diagnostics));
    fields.finish(diagnostics);
    let (soft, hard) = match (soft, hard) {
        (Some(soft), Some(hard)) => (soft, hard),
        (Some(both), None) | (None, Some(both)) => (both, both),
        (None, None) => {
            diagnostics.error(&node.span, format!("`{name}` needs `soft`, `hard` or both"));
            return None;
        }
    };
    if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
        diagnostics.error(&node.span, format!("`{name}`: soft is above hard"));
    }
    Some(Rlimit { soft, hard })
}

/// A bound of a limit; `Some(None)` is `unlimited`.
fn bound(node: &Node, name: &str, diagnostics: &mut Diagnostics) -> Option<Option<u64>> {
    let text = node.text().unwrap_or_default();
    if matches!(text.as_str(), "unlimited" | "infinity") {
        return Some(None);
    }
    match text.parse::<Bytes>() {
        Ok(Bytes(bound)) => Some(Some(bound)),
        Err(_) => {
            let expected = "a number, a size or `unlimited`";
            wrong_type(node, name, expected, diagnostics);
            None
        }
    }
}
