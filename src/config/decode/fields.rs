//! Taking typed values out of a map, with Thermos' coercions; every mistake is collected.
//!
//! Numbers may be strings, strings may be numbers, booleans may be `true`, `false`, 0 or 1 in any
//! case; a fraction is cut where a whole number is meant. Which fields a map may have is in its
//! table: a name that is in none cannot be read. What the values mean is not decided here.

use std::str::FromStr;

use super::unknown_fields::complain;
use crate::{
    config::{
        diagnostic::Diagnostics,
        table::row::Table,
        text::node::{Entry, Node, Span, Value},
    },
    task::{Bytes, Period},
};

/// Larger numbers are refused: no count and no limit of a task is meant to be that large.
const ABSURD: f64 = 1_000_000_000.0;

/// A map being decoded.
pub(super) struct Fields<'n> {
    table: &'static Table,
    pub span: Span,
    /// Each with whether it was taken.
    entries: Vec<(&'n Entry, bool)>,
}

impl<'n> Fields<'n> {
    /// The fields of `node`; `None` (and a diagnostic) when it is no map.
    pub fn of(
        node: &'n Node,
        table: &'static Table,
        diagnostics: &mut Diagnostics,
    ) -> Option<Fields<'n>> {
        let Value::Map(map) = &node.value else {
            let (what, found) = (table.what, node.kind());
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
            table,
            span: node.span.clone(),
            entries,
        })
    }

    /// The value called `name`; null counts as absent.
    pub fn take(&mut self, name: &str) -> Option<&'n Node> {
        self.check(name);
        self.take_any(name)
    }

    /// The same for a field of another map that gets a message of its own here.
    pub fn take_misplaced(&mut self, name: &str) -> Option<&'n Node> {
        self.take_any(name)
    }

    fn take_any(&mut self, name: &str) -> Option<&'n Node> {
        let mut entries = self.entries.iter_mut();
        let (entry, taken) = entries.find(|(entry, _)| entry.key == name)?;
        if entry.node.value == Value::Null && !self.table.names().any(|known| known == name) {
            return None;
        }
        *taken = true;
        (entry.node.value != Value::Null).then_some(&entry.node)
    }

    /// A field that is in no table would be missing from the hints, the schema and the docs.
    fn check(&self, name: &str) {
        debug_assert!(
            self.table.names().any(|known| known == name),
            "`{name}` is not in the table of {}",
            self.table.what
        );
    }

    fn entry(&self, name: &str) -> Option<&'n Entry> {
        self.check(name);
        let entries = self.entries.iter().map(|(entry, _)| *entry);
        entries.into_iter().find(|entry| entry.key == name)
    }

    /// Where the value called `name` is, else the whole map.
    pub fn place(&self, name: &str) -> Span {
        let entry = self.entry(name);
        entry.map_or(self.span.clone(), |entry| entry.node.span.clone())
    }

    /// A string, also one that is written as a number or a boolean.
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
            let what = self.table.what;
            diagnostics
                .error(&first_line(&self.span), format!("{what} needs `{name}`"))
                .label(format!("`{name}` is missing"));
        }
        self.string(name, diagnostics)
    }

    /// True when there is a value called `name` that is not null.
    pub fn has(&self, name: &str) -> bool {
        let entry = self.entry(name);
        entry.is_some_and(|entry| entry.node.value != Value::Null)
    }

    /// True when the value called `name` is a list.
    pub fn is_list(&self, name: &str) -> bool {
        let entry = self.entry(name);
        entry.is_some_and(|entry| matches!(entry.node.value, Value::List(_)))
    }

    /// A boolean, also as a number or as a string.
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

    /// A duration; a bare number is whole seconds.
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

    /// A size; a bare number is bytes.
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

    /// Complains about every field that the table does not have.
    pub fn finish(self, diagnostics: &mut Diagnostics) {
        for (entry, taken) in &self.entries {
            let is_known = || self.table.names().any(|known| known == entry.key);
            if !*taken && !is_known() {
                complain(self.table, entry, diagnostics);
            }
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

/// Says what was expected in place of `node`.
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
