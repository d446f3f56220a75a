//! Templates: `{{...}}` in the strings of a task is filled in.
//!
//! A reference is looked up in the struct that the string is in, then in those around it, then in
//! `--set`, then in `thermos` and `mesos`. What it finds may refer on. `{{&x}}` is a literal
//! `{{x}}`. Braces around anything that is no reference (`{{.Names}}`) are left alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    diagnostic::Diagnostics,
    text::node::{Entry, Node, Span, Value},
};

/// References in references, at most.
const DEEPEST: usize = 100;
/// References that are followed in one file: references in references multiply.
const MOST_STEPS: usize = 100_000;
/// Bytes that all references together may add to one file.
const MOST_BYTES: usize = 16 << 20;

/// What templates may refer to beside the fields of the task: known when the task begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// The id of the task, `{{thermos.task_id}}`.
    pub task_id: String,
    /// The user that runs the task, `{{thermos.user}}`.
    pub user: String,
    /// The number of the instance, `{{mesos.instance}}`.
    pub instance: u32,
    /// The name of the machine, `{{mesos.hostname}}`.
    pub hostname: String,
    /// Numbers of ports by name, `{{thermos.ports[NAME]}}`.
    pub ports: BTreeMap<String, u16>,
    /// Values that the user gives with `--set NAME=VALUE`.
    pub sets: BTreeMap<String, String>,
}

/// Expands every string below one task.
pub(super) struct Expander<'a> {
    pub source: &'a str,
    pub bindings: &'a Bindings,
    pub diagnostics: &'a mut Diagnostics,
    /// Ports that are referred to, with the place of the first reference.
    pub ports: BTreeMap<String, Span>,
    used_sets: BTreeSet<String>,
    /// The names that are being expanded, outermost first: one that refers to itself is in here.
    open: Vec<String>,
    steps: usize,
    bytes: usize,
}

/// What a reference leads to.
enum Found {
    Text(String),
    Node(Node),
}

impl<'a> Expander<'a> {
    pub fn new(
        source: &'a str,
        bindings: &'a Bindings,
        diagnostics: &'a mut Diagnostics,
    ) -> Expander<'a> {
        Expander {
            source,
            bindings,
            diagnostics,
            ports: BTreeMap::new(),
            used_sets: BTreeSet::new(),
            open: Vec::new(),
            steps: 0,
            bytes: 0,
        }
    }

    /// `node` with all its strings expanded. `scopes` are the maps around it, outermost first.
    pub fn expand(&mut self, node: &Node, scopes: &[&Node]) -> Node {
        let value = match &node.value {
            Value::String(text) => {
                let mut out = String::new();
                self.text(text, node, scopes, 0, &mut out);
                Value::String(out)
            }
            Value::List(list) => {
                Value::List(list.iter().map(|item| self.expand(item, scopes)).collect())
            }
            Value::Map(map) => {
                let inner: Vec<&Node> = scopes.iter().copied().chain([node]).collect();
                let entries = map.iter().map(|entry| Entry {
                    key: entry.key.clone(),
                    key_span: entry.key_span.clone(),
                    node: self.expand(&entry.node, &inner),
                });
                Value::Map(entries.collect())
            }
            other => other.clone(),
        };
        Node::new(value, node.span.clone())
    }

    /// Names given by `--set` that nothing referred to.
    pub fn unused_sets(&self) -> impl Iterator<Item = &String> {
        let sets = self.bindings.sets.keys();
        sets.filter(|name| !self.used_sets.contains(*name))
    }

    fn text(&mut self, text: &str, at: &Node, scopes: &[&Node], depth: usize, out: &mut String) {
        let mut rest = text;
        while let Some(open) = rest.find("{{") {
            let (before, from) = rest.split_at(open);
            out.push_str(before);
            let Some(close) = from.find("}}") else {
                rest = from;
                break;
            };
            let inside = &from[2..close];
            let whole = &from[..close + 2];
            rest = &from[close + 2..];
            let literal = inside.strip_prefix('&').filter(|name| path(name).is_some());
            match (literal, path(inside)) {
                (Some(name), _) => {
                    out.push_str("{{");
                    out.push_str(name);
                    out.push_str("}}");
                }
                (None, Some(path)) => self.reference(whole, &path, at, scopes, depth, out),
                (None, None) => {
                    // No reference: keep the first braces and look again right behind them.
                    out.push_str("{{");
                    rest = &from[2..];
                }
            }
        }
        out.push_str(rest);
    }

    fn reference(
        &mut self,
        whole: &str,
        path: &[&str],
        at: &Node,
        scopes: &[&Node],
        depth: usize,
        out: &mut String,
    ) {
        let name = &whole[2..whole.len() - 2];
        if self.is_over_budget() {
            return;
        }
        if depth >= DEEPEST || self.open.iter().any(|open| open == name) {
            let span = self.place(whole, at);
            let message = format!("variable `{name}` refers to itself without end");
            self.diagnostics.error(&span, message);
            return;
        }
        self.steps += 1;
        if self.is_over_budget() {
            let span = self.place(whole, at);
            self.diagnostics
                .error(&span, "the variables of this file add up to too much");
            return;
        }
        match self.look_up(name, path, at, whole, scopes) {
            Some(Found::Text(text)) => {
                self.bytes += text.len();
                out.push_str(&text);
            }
            Some(Found::Node(node)) => match node.text() {
                Some(text) => {
                    self.bytes += text.len();
                    self.open.push(name.to_owned());
                    self.text(&text, at, scopes, depth + 1, out);
                    self.open.pop();
                }
                None => {
                    let span = self.place(whole, at);
                    let message = format!("variable `{name}` is {}, not a string", node.kind());
                    self.diagnostics.error(&span, message);
                }
            },
            None => {
                let span = self.place(whole, at);
                let known: Vec<String> = self.bindings.sets.keys().cloned().collect();
                let built_in = [
                    "thermos.task_id",
                    "thermos.user",
                    "mesos.instance",
                    "mesos.hostname",
                ];
                let names = known.iter().map(String::as_str).chain(built_in);
                self.diagnostics
                    .error(&span, format!("unbound variable `{name}`"))
                    .help(format!(
                        "give it with --set {name}=VALUE, or write {{{{&{name}}}}} for the text itself"
                    ))
                    .did_you_mean(name, names);
            }
        }
    }

    fn is_over_budget(&self) -> bool {
        self.steps > MOST_STEPS || self.bytes > MOST_BYTES
    }

    fn look_up(
        &mut self,
        name: &str,
        path: &[&str],
        at: &Node,
        whole: &str,
        scopes: &[&Node],
    ) -> Option<Found> {
        for scope in scopes.iter().rev() {
            if let Some(node) = descend(scope, path) {
                return Some(match node.text() {
                    Some(_) => Found::Node(node.clone()),
                    // A list or a map is only named in an error: its kind is enough.
                    None => Found::Node(Node::new(empty_like(&node.value), node.span.clone())),
                });
            }
        }
        if let Some(value) = self.bindings.sets.get(name) {
            self.used_sets.insert(name.to_owned());
            return Some(Found::Text(value.clone()));
        }
        let bindings = self.bindings;
        let text = match path {
            ["thermos", "task_id"] => bindings.task_id.clone(),
            ["thermos", "user"] => bindings.user.clone(),
            ["thermos", "ports", port] => {
                let span = self.place(whole, at);
                self.ports.entry((*port).to_owned()).or_insert(span);
                bindings.ports.get(*port).copied().unwrap_or(0).to_string()
            }
            ["mesos", "instance"] => bindings.instance.to_string(),
            ["mesos", "hostname"] => bindings.hostname.clone(),
            _ => return None,
        };
        Some(Found::Text(text))
    }

    /// The place of the reference itself when it stands in the source as it is, else of the value.
    fn place(&self, whole: &str, at: &Node) -> Span {
        let span = at.span.start.min(self.source.len())..at.span.end.min(self.source.len());
        match self
            .source
            .get(span.clone())
            .and_then(|text| text.find(whole))
        {
            Some(offset) => {
                let start = span.start + offset;
                start..start + whole.len()
            }
            None => span,
        }
    }
}

fn empty_like(value: &Value) -> Value {
    match value {
        Value::List(_) => Value::List(Vec::new()),
        Value::Map(_) => Value::Map(Vec::new()),
        other => other.clone(),
    }
}

/// The node at `path` below `scope`.
fn descend<'n>(scope: &'n Node, path: &[&str]) -> Option<&'n Node> {
    let mut node = scope;
    for step in path {
        node = match &node.value {
            Value::List(list) => list.get(step.parse::<usize>().ok()?)?,
            _ => node.get(step)?,
        };
    }
    Some(node)
}

/// Splits `a.b[c]`; `None` when it is no reference.
fn path(name: &str) -> Option<Vec<&str>> {
    let mut steps = Vec::new();
    let mut rest = name;
    loop {
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let step = &rest[..end];
        if !step.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return None;
        }
        steps.push(step);
        rest = &rest[end..];
        while let Some(inner) = rest.strip_prefix('[') {
            let close = inner.find(']')?;
            let index = &inner[..close];
            let is_index = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
            if index.is_empty() || !index.chars().all(is_index) {
                return None;
            }
            steps.push(index);
            rest = &inner[close + 1..];
        }
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Some(steps),
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str, sets: &[(&str, &str)]) -> (String, Vec<String>) {
        let bindings = Bindings {
            task_id: "t-1".to_owned(),
            instance: 3,
            ports: BTreeMap::from([("http".to_owned(), 8080)]),
            sets: sets
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Bindings::default()
        };
        let mut diagnostics = Diagnostics::default();
        let node = Node::new(Value::String(text.to_owned()), 0..text.len());
        let mut expander = Expander::new(text, &bindings, &mut diagnostics);
        let scope = Node::new(
            Value::Map(vec![Entry {
                key: "loop".to_owned(),
                key_span: 0..0,
                node: Node::new(Value::String("{{loop}}".to_owned()), 0..0),
            }]),
            0..0,
        );
        let out = expander.expand(&node, &[&scope]).text().unwrap();
        let messages = diagnostics.iter().map(|one| one.message.clone());
        (out, messages.collect())
    }

    #[test]
    fn references_are_replaced_and_escapes_survive() {
        let (out, messages) = expand(
            "{{thermos.task_id}} {{thermos.ports[http]}} {{mesos.instance}} {{a.b}} {{&x}}",
            &[("a.b", "{{c}}")],
        );
        assert_eq!(out, "t-1 8080 3 {{c}} {{x}}");
        assert!(messages.is_empty());
    }

    #[test]
    fn other_peoples_braces_are_left_alone() {
        for text in ["{{.Names}}", "{{ x }}", "{{", "a }} b", "{{{}}}", "{{a[}}"] {
            assert_eq!(expand(text, &[]), (text.to_owned(), vec![]), "{text}");
        }
    }

    #[test]
    fn what_is_unbound_or_endless_is_said() {
        assert_eq!(expand("{{x.y}}", &[]).1, ["unbound variable `x.y`"]);
        let (_, messages) = expand("{{loop}}", &[]);
        assert!(messages[0].contains("without end"), "{messages:?}");
    }
}
