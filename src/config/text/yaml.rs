//! YAML becomes trees of nodes, one a document. Anchors, aliases and merge keys (`<<`) are
//! resolved.
//!
//! A small hostile file must not become a large tree: depth, nodes and bytes are limited.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as YamlSpan, StrInput};

use super::node::{Entry, Node, Span, Value};
use crate::config::diagnostic::Diagnostics;

/// The deepest nesting that is read: deeper input could exhaust the stack.
const DEEPEST: usize = 64;
/// The most nodes that are built: aliases multiply.
const MOST_NODES: usize = 1_000_000;
/// The most bytes of texts that anchors keep and aliases repeat.
const MOST_BYTES: usize = 32 << 20;

/// Parses `source`; `None` (and a diagnostic) when it is not YAML.
pub(crate) fn parse(source: &str, diagnostics: &mut Diagnostics) -> Option<Vec<Node>> {
    let mut builder = Builder {
        parser: Parser::new_from_str(source),
        offsets: Offsets::new(source),
        anchors: HashMap::new(),
        nodes: 0,
        bytes: 0,
    };
    match builder.documents() {
        Ok(documents) => Some(documents),
        Err(failure) => {
            diagnostics.error(&failure.span, format!("this is no YAML: {}", failure.what));
            None
        }
    }
}

struct Failure {
    span: Span,
    what: String,
}

type Result<T> = std::result::Result<T, Failure>;

struct Builder<'s> {
    parser: Parser<'s, StrInput<'s>>,
    offsets: Offsets,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    bytes: usize,
}

impl<'s> Builder<'s> {
    fn documents(&mut self) -> Result<Vec<Node>> {
        let mut documents = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(documents),
                Event::DocumentStart(_) | Event::DocumentEnd | Event::StreamStart => {}
                event => documents.push(self.node(event, span, 0)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'s>, Span)> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.offsets.span(&span))),
            Some(Err(error)) => Err(self.scan_error(&error)),
            None => Ok((Event::StreamEnd, 0..0)),
        }
    }

    fn scan_error(&self, error: &ScanError) -> Failure {
        let at = self.offsets.byte(error.marker().index());
        Failure {
            span: at..at,
            what: error.info().to_owned(),
        }
    }

    fn node(&mut self, event: Event<'s>, span: Span, depth: usize) -> Result<Node> {
        let fail = |span: &Span, what: &str| Failure {
            span: span.clone(),
            what: what.to_owned(),
        };
        self.nodes += 1;
        if depth > DEEPEST {
            return Err(fail(&span, "nested too deeply"));
        }
        if self.nodes > MOST_NODES {
            return Err(fail(&span, "too many values"));
        }
        match event {
            Event::Alias(anchor) => {
                let Some(known) = self.anchors.get(&anchor) else {
                    let what = "an alias within what it stands for, or without anchor";
                    return Err(fail(&span, what));
                };
                let Measure {
                    nodes,
                    bytes,
                    height,
                } = measure(known);
                self.nodes += nodes;
                self.bytes += bytes;
                if depth + height > DEEPEST {
                    return Err(fail(&span, "nested too deeply"));
                }
                if self.nodes > MOST_NODES || self.bytes > MOST_BYTES {
                    return Err(fail(&span, "too many values"));
                }
                let mut node = self.anchors[&anchor].clone();
                node.span = span;
                Ok(node)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_string = tag.is_some_and(|tag| tag.suffix == "str");
                let value = match style {
                    ScalarStyle::Plain if !is_string => plain(&text),
                    _ => Value::String(text.into_owned()),
                };
                self.anchored(anchor, Node::new(value, span))
            }
            Event::SequenceStart(anchor, _) => {
                let mut list = Vec::new();
                let end = loop {
                    match self.next()? {
                        (Event::SequenceEnd, end) => break end.end,
                        (event, span) => list.push(self.node(event, span, depth + 1)?),
                    }
                };
                let node = Node::new(Value::List(list), span.start..end);
                self.anchored(anchor, node)
            }
            Event::MappingStart(anchor, _) => {
                let (map, end) = self.map(depth)?;
                let node = Node::new(Value::Map(map), span.start..end);
                self.anchored(anchor, node)
            }
            other => Err(fail(&span, &format!("unexpected {other:?}"))),
        }
    }

    fn map(&mut self, depth: usize) -> Result<(Vec<Entry>, usize)> {
        let mut map: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                // What is written here wins over what is merged in.
                if !merged.is_empty() {
                    let own: HashSet<&str> = map.iter().map(|own| own.key.as_str()).collect();
                    merged.retain(|entry| !own.contains(entry.key.as_str()));
                }
                map.extend(merged);
                return Ok((map, span.end));
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            let Some(text) = key.text() else {
                let what = format!("expected a name as key, found {}", key.kind());
                return Err(Failure {
                    span: key.span,
                    what,
                });
            };
            match node.value {
                Value::Map(entries) if text == "<<" => merged.extend(entries),
                value => map.push(Entry {
                    key: text,
                    key_span: key.span,
                    node: Node::new(value, node.span),
                }),
            }
        }
    }

    fn anchored(&mut self, anchor: usize, node: Node) -> Result<Node> {
        if anchor != 0 {
            self.bytes += measure(&node).bytes;
            if self.bytes > MOST_BYTES {
                return Err(Failure {
                    span: node.span,
                    what: "too many values".to_owned(),
                });
            }
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }
}

/// What a node holds, itself included.
#[derive(Clone, Copy, Default)]
struct Measure {
    nodes: usize,
    bytes: usize,
    /// How deep they are nested.
    height: usize,
}

fn measure(node: &Node) -> Measure {
    let all = |children: &mut dyn Iterator<Item = (usize, &Node)>| {
        let own = Measure {
            nodes: 1,
            bytes: 0,
            height: 1,
        };
        children.fold(own, |all, (key, child)| {
            let child = measure(child);
            Measure {
                nodes: all.nodes + child.nodes,
                bytes: all.bytes + key + child.bytes,
                height: all.height.max(child.height + 1),
            }
        })
    };
    match &node.value {
        Value::List(list) => all(&mut list.iter().map(|item| (0, item))),
        Value::Map(map) => all(&mut map.iter().map(|entry| (entry.key.len(), &entry.node))),
        Value::String(text) | Value::Number(text) => Measure {
            nodes: 1,
            bytes: text.len(),
            height: 1,
        },
        Value::Null | Value::Bool(_) => Measure {
            nodes: 1,
            bytes: 0,
            height: 1,
        },
    }
}

/// A plain scalar by YAML's core schema.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if is_number(text) => Value::Number(text.to_owned()),
        _ => Value::String(text.to_owned()),
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let radix = |prefix: &str, radix: u32| {
        digits
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix)))
    };
    let decimal = digits.starts_with(|c: char| c.is_ascii_digit()) && text.parse::<f64>().is_ok();
    decimal || radix("0x", 16) || radix("0o", 8)
}

/// The parser counts characters; everything else here counts bytes.
struct Offsets {
    /// Empty when the source is ASCII.
    bytes: Vec<usize>,
}

impl Offsets {
    fn new(source: &str) -> Offsets {
        let bytes = match source.is_ascii() {
            true => Vec::new(),
            false => {
                let starts = source.char_indices().map(|(at, _)| at);
                starts.chain([source.len()]).collect()
            }
        };
        Offsets { bytes }
    }

    fn byte(&self, character: usize) -> usize {
        match self.bytes.is_empty() {
            true => character,
            false => self.bytes[character.min(self.bytes.len() - 1)],
        }
    }

    fn span(&self, span: &YamlSpan) -> Span {
        self.byte(span.start.index())..self.byte(span.end.index())
    }
}
