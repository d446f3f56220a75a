//! What a process is launched with: `umask`, `env`, `env_file`, `stop_signal`, `backoff`.

use std::collections::BTreeMap;

use super::fields::{Fields, wrong_type};
use crate::{
    config::{
        diagnostic::Diagnostics,
        table::task::BACKOFF,
        text::node::{Node, Value},
    },
    task::{Backoff, StopSignal},
};

/// A mask in octal: `022`, `0o022` or `"022"`.
pub(super) fn umask(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> Option<u32> {
    let node = fields.take("umask")?;
    let text = node.text().unwrap_or_default();
    let digits = text.strip_prefix("0o").unwrap_or(&text);
    match u32::from_str_radix(digits, 8) {
        Ok(mask) if mask <= 0o777 => Some(mask),
        _ => {
            diagnostics
                .error(&node.span, "`umask` does not parse")
                .label("expected an octal mask such as 022");
            None
        }
    }
}

/// Variables by name; null is an empty value.
pub(super) fn env(
    fields: &mut Fields<'_>,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let Some(node) = fields.take("env") else {
        return env;
    };
    let Value::Map(map) = &node.value else {
        wrong_type(node, "env", "a map of names and values", diagnostics);
        return env;
    };
    for entry in map {
        if env.contains_key(&entry.key) {
            let message = format!("`{}` is given twice", entry.key);
            diagnostics.error(&entry.key_span, message);
        }
        if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
            let message = format!("`{}` cannot be a variable's name", entry.key);
            diagnostics.error(&entry.key_span, message);
        }
        match entry.node.text() {
            Some(value) => {
                env.insert(entry.key.clone(), value);
            }
            None if entry.node.value == Value::Null => {
                env.insert(entry.key.clone(), String::new());
            }
            None => wrong_type(&entry.node, &entry.key, "a string", diagnostics),
        }
    }
    env
}

/// The path of one file, or a list of paths.
pub(super) fn env_file(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> Vec<String> {
    let is_list = fields.is_list("env_file");
    let files = match is_list {
        true => fields.strings("env_file", diagnostics).unwrap_or_default(),
        false => {
            let place = fields.place("env_file");
            let file = fields.string("env_file", diagnostics);
            file.map(|file| (file, place)).into_iter().collect()
        }
    };
    for (file, place) in &files {
        if file.is_empty() || file.contains('\0') {
            diagnostics.error(place, "`env_file` needs the path of a file");
        }
    }
    files.into_iter().map(|(file, _)| file).collect()
}

/// A signal by name or number.
pub(super) fn stop_signal(
    fields: &mut Fields<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<StopSignal> {
    let place = fields.place("stop_signal");
    let text = fields.string("stop_signal", diagnostics)?;
    match text.parse() {
        Ok(signal) => Some(signal),
        Err(why) => {
            diagnostics
                .error(&place, format!("`{text}` is no signal"))
                .label(why)
                .did_you_mean(&text.to_ascii_uppercase(), StopSignal::names());
            None
        }
    }
}

/// How the pause between runs grows.
pub(super) fn backoff(node: &Node, diagnostics: &mut Diagnostics) -> Option<Backoff> {
    let mut fields = Fields::of(node, &BACKOFF, diagnostics)?;
    let standard = Backoff::default();
    let places = ["factor", "jitter"].map(|name| fields.place(name));
    let backoff = Backoff {
        factor: fields
            .real("factor", diagnostics)
            .unwrap_or(standard.factor),
        max: fields.period("max", diagnostics).unwrap_or(standard.max),
        jitter: fields
            .real("jitter", diagnostics)
            .unwrap_or(standard.jitter),
        reset_after: fields
            .period("reset_after", diagnostics)
            .unwrap_or(standard.reset_after),
    };
    const MOST: f64 = 100.0;
    if !(1.0..=MOST).contains(&backoff.factor) {
        diagnostics
            .error(&places[0], "`factor` is out of range")
            .label("from 1 to 100");
    }
    if !(0.0..=1.0).contains(&backoff.jitter) {
        diagnostics
            .error(&places[1], "`jitter` is out of range")
            .label("a share, from 0 to 1");
    }
    fields.finish(diagnostics);
    Some(backoff)
}
