//! Taking typed values out of a map, with Thermos' coercions, noting every mistake.
//!
//! Numbers may be strings, strings may be numbers, booleans may be `true`, `false`, 0 or 1 in any
//! case; a fraction is cut where a whole number is meant.

use std::str::FromStr;

use crate::{
    config::{
        diagnostic::Diagnostics,
        text::node::{Entry, Node, Span, Value},
    },
    task::{Bytes, Period},
};

/// Larger whole numbers are no sensible limit of anything.
const ABSURD: f64 = 1_000_000_000.0;

/// A map being decoded.
pub(super) struct Fields<'n> {
    what: &'static str,
    pub span: Span,
    entries: Vec<(&'n Entry, bool)>,
}

impl<'n> Fields<'n> {
    /// `None` (and a diagnostic) when `node` is no map. `what` is a name for messages.
    pub fn of(
        node: &'n Node,
        what: &'static str,
        diagnostics: &mut Diagnostics,
    ) -> Option<Fields<'n>> {
        let Value::Map(map) = &node.value else {
            let found = node.kind();
            diagnostics
                .error(&node.span, format!("wrong type: {what} must be a map"))
                .label(format!("expected a map, found {found}"));
            return None;
        };
        let mut entries: Vec<(&Entry, bool)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for entry in map {
            if !seen.insert(entry.key.as_str()) {
                diagnostics
                    .error(&entry.key_span, format!("`{}` is given twice", entry.key))
                    .help("remove one of them");
            } else {
                entries.push((entry, false));
            }
        }
        Some(Fields {
            what,
            span: node.span.clone(),
            entries,
        })
    }

    /// The value called `name`; null counts as absent.
    pub fn take(&mut self, name: &str) -> Option<&'n Node> {
        let (entry, taken) = self
            .entries
            .iter_mut()
            .find(|(entry, _)| entry.key == name)?;
        *taken = true;
        (entry.node.value != Value::Null).then_some(&entry.node)
    }

    /// Where the field called `name` is, else the whole map.
    pub fn place(&self, name: &str) -> Span {
        let entry = self.entries.iter().find(|(entry, _)| entry.key == name);
        entry.map_or(self.span.clone(), |(entry, _)| entry.node.span.clone())
    }

    pub fn string(&mut self, name: &str, diagnostics: &mut Diagnostics) -> Option<String> {
        let node = self.take(name)?;
        let text = node.text();
        if text.is_none() {
            wrong_type(node, name, "a string", diagnostics);
        }
        text
    }

    /// As [`string`](Self::string), but its absence is an error.
    pub fn required(&mut self, name: &str, diagnostics: &mut Diagnostics) -> Option<String> {
        if !self.has(name) {
            let what = self.what;
            diagnostics
                .error(&first_line(&self.span), format!("{what} needs `{name}`"))
                .label(format!("`{name}` is missing"));
        }
        self.string(name, diagnostics)
    }

    pub fn has(&self, name: &str) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|(entry, _)| entry.key == name && entry.node.value != Value::Null)
    }

    pub fn is_list(&self, name: &str) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|(entry, _)| entry.key == name && matches!(entry.node.value, Value::List(_)))
    }

    pub fn boolean(&mut self, name: &str, diagnostics: &mut Diagnostics) -> Option<bool> {
        let node = self.take(name)?;
        let value = match &node.value {
            Value::Bool(value) => Some(*value),
            Value::Number(text) => number(text).map(|number| number != 0.0),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if value.is_none() {
            wrong_type(node, name, "true or false", diagnostics);
        }
        value
    }

    /// A whole number from 0.
    pub fn count(&mut self, name: &str, diagnostics: &mut Diagnostics) -> Option<u32> {
        let node = self.take(name)?;
        let value = node.text().and_then(|text| number(&text));
        let Some(value) = value else {
            wrong_type(node, name, "a whole number", diagnostics);
            return None;
        };
        in_range(node, name, value, diagnostics).then_some(value as u32)
    }

    /// A number from 0 that may have a fraction.
    pub fn real(&mut self, name: &str, diagnostics: &mut Diagnostics) -> Option<f64> {
        let node = self.take(name)?;
        let value = node.text().and_then(|text| number(&text));
        let Some(value) = value else {
            wrong_type(node, name, "a number", diagnostics);
            return None;
        };
        in_range(node, name, value, diagnostics).then_some(value)
    }

    pub fn period(&mut self, name: &str, diagnostics: &mut Diagnostics) -> Option<Period> {
        let node = self.take(name)?;
        let text = node.text();
        if let Some(seconds) = text.as_deref().and_then(number) {
            // Thermos knew whole seconds only and cut what was more.
            let whole = Period::from_str(&format!("{}", seconds.trunc().max(0.0)));
            let fits = in_range(node, name, seconds, diagnostics);
            return whole.ok().filter(|_| fits);
        }
        parsed(node, name, text, diagnostics)
    }

    pub fn bytes(&mut self, name: &str, diagnostics: &mut Diagnostics) -> Option<Bytes> {
        let node = self.take(name)?;
        let text = node.text();
        if let Some(bytes) = text.as_deref().and_then(number) {
            if bytes < 0.0 {
                negative(node, name, diagnostics);
                return None;
            }
            let whole = format!("{}", bytes.trunc());
            return parsed(node, name, Some(whole), diagnostics);
        }
        parsed(node, name, text, diagnostics)
    }

    /// A list of strings, with their places.
    pub fn strings(
        &mut self,
        name: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<(String, Span)>> {
        let node = self.take(name)?;
        let Value::List(list) = &node.value else {
            wrong_type(node, name, "a list of strings", diagnostics);
            return None;
        };
        let mut strings = Vec::new();
        for item in list {
            match item.text() {
                Some(text) => strings.push((text, item.span.clone())),
                None => wrong_type(item, name, "a string", diagnostics),
            }
        }
        Some(strings)
    }

    /// Complains about everything that was not taken. `later` are names that will mean something.
    pub fn finish(self, known: &[&str], later: &[&str], diagnostics: &mut Diagnostics) {
        let what = self.what;
        for (entry, taken) in &self.entries {
            let key = entry.key.as_str();
            if *taken || known.contains(&key) {
                continue;
            }
            if later.contains(&key) {
                diagnostics
                    .error(&entry.key_span, format!("`{key}` of {what}: not yet"))
                    .help("this version of dewar does not have it; remove it");
                continue;
            }
            diagnostics
                .unknown(&entry.key_span, format!("unknown field `{key}` in {what}"))
                .label("unknown field")
                .help(format!("known fields are {}", known.join(", ")))
                .did_you_mean(key, known.iter().copied());
        }
    }
}

/// A finite number, as JSON and YAML write them.
pub(super) fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let radix = |prefix, radix| {
        let digits = digits.strip_prefix(prefix)?;
        u64::from_str_radix(digits, radix).ok()
    };
    let value = match radix("0x", 16).or_else(|| radix("0o", 8)) {
        Some(value) => value as f64,
        None if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            digits.parse().ok()?
        }
        None => return None,
    };
    let value = if negative { -value } else { value };
    f64::is_finite(value).then_some(value)
}

fn parsed<T: FromStr<Err = &'static str>>(
    node: &Node,
    name: &str,
    text: Option<String>,
    diagnostics: &mut Diagnostics,
) -> Option<T> {
    let why = match text.map(|text| text.parse()) {
        Some(Ok(value)) => return Some(value),
        Some(Err(why)) => why,
        None => "expected a number with a unit",
    };
    diagnostics
        .error(&node.span, format!("`{name}` does not parse"))
        .label(why);
    None
}

fn in_range(node: &Node, name: &str, value: f64, diagnostics: &mut Diagnostics) -> bool {
    if value < 0.0 {
        negative(node, name, diagnostics);
    } else if value > ABSURD {
        diagnostics
            .error(&node.span, format!("`{name}` is absurdly large"))
            .label("at most 1000000000");
    }
    (0.0..=ABSURD).contains(&value)
}

fn negative(node: &Node, name: &str, diagnostics: &mut Diagnostics) {
    diagnostics
        .error(&node.span, format!("`{name}` is negative"))
        .label("expected 0 or more");
}

pub(super) fn wrong_type(node: &Node, name: &str, expected: &str, diagnostics: &mut Diagnostics) {
    let found = match &node.value {
        Value::String(text) if text.chars().count() <= 20 => format!("{text:?}"),
        _ => node.kind().to_owned(),
    };
    diagnostics
        .error(&node.span, format!("wrong type: `{name}`"))
        .label(format!("expected {expected}, found {found}"));
}

/// A map's span may be long; its beginning is enough to point at.
pub(super) fn first_line(span: &Span) -> Span {
    span.start..(span.start + 1).min(span.end)
}
