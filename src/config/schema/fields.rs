//! A table of fields as JSON Schema: what its map, each of its fields and each default look like.
//!
//! Thermos' coercions are part of it: numbers may be strings, and strings may hold templates. A
//! field that need not be there may be null, which counts as absent.

use serde_json::{Map, Value, json};

use crate::{
    config::table::row::{Absent, Kind, Row, Table},
    task::{Protection, Rlimits},
};

/// A map with the fields of `table`, and no others.
pub(super) fn object(table: &Table) -> Value {
    let properties = table.rows().map(|row| (row.name.to_owned(), field(row)));
    let required = table
        .rows()
        .filter(|row| matches!(row.absent, Absent::Required));
    let required: Vec<&str> = required.map(|row| row.name).collect();
    map(table.words, &required, properties.collect())
}

/// For a map that needs one of several fields: a condition for each of them.
pub(super) fn alternatives(table: &Table) -> Value {
    let rows = table.rows();
    let alternatives = rows.filter(|row| matches!(row.absent, Absent::OneOf));
    alternatives
        .map(|row| json!({"required": [row.name]}))
        .collect()
}

/// Definitions that kinds of fields refer to.
pub(super) fn definitions() -> Value {
    json!({
        "count": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]},
        "number": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]},
        "boolean": {"anyOf": [{"type": "boolean"}, {"type": "number"}, {"type": "string"}]},
        "text": {"type": ["string", "number", "boolean"]},
        "period": {
            "description": "500ms, 5s, 2m, 1h30m; a bare number is seconds.",
            "anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]
        },
        "size": {
            "description": "128MB, 64MiB, 2GB; a bare number is bytes.",
            "anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]
        },
        "port": {
            "description": "A number, or {{thermos.ports[NAME]}}.",
            "anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]
        }
    })
}

fn field(row: &Row) -> Value {
    let mut value = kind(row);
    value["description"] = row.description().into();
    if let Absent::Value(text) = row.absent {
        value["default"] = default(row.kind, text);
    }
    value
}

/// A default as a file in JSON has it.
fn default(kind: Kind, text: &str) -> Value {
    let is_text = matches!(kind, Kind::Text | Kind::Choice(_) | Kind::WordOrMap(_));
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) if !is_text => value,
        _ => text.into(),
    }
}

fn kind(row: &Row) -> Value {
    match row.kind {
        Kind::Text => text(),
        Kind::Texts => texts(),
        Kind::TextOrTexts => json!({"anyOf": [text(), texts()]}),
        Kind::Choice(names) => choice(names),
        Kind::Count => nullable(reference("count")),
        Kind::CountOrUnlimited => {
            nullable(json!({"anyOf": [reference("count"), {"const": -1}, {"const": "-1"}]}))
        }
        Kind::Number => number(),
        Kind::Integer => nullable(json!({"anyOf": [{"type": "integer"}, number()]})),
        Kind::Whole => json!({"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "null"}]}),
        Kind::Boolean => nullable(reference("boolean")),
        Kind::Period => nullable(reference("period")),
        Kind::Seconds => nullable(json!({"anyOf": [reference("number"), reference("period")]})),
        Kind::Size => nullable(reference("size")),
        Kind::Port => reference("port"),
        Kind::Bound => bound(),
        Kind::Map(table) | Kind::WordOrMap(table) => {
            let value = table.definition.map_or_else(|| object(table), reference);
            match row.absent {
                Absent::Required | Absent::OneOf => value,
                _ => nullable(value),
            }
        }
        Kind::Maps(table) => {
            let items = table.definition.map_or_else(|| object(table), reference);
            match row.absent {
                Absent::Required => json!({"type": "array", "items": items}),
                _ => list(items),
            }
        }
        Kind::Rlimits(table) => {
            let mut limit = json!({"anyOf": [bound(), object(table)]});
            limit["description"] = "See setrlimit(2).".into();
            let limits = Rlimits::NAMES.map(|name| (name.to_owned(), limit.clone()));
            nullable(map("Limits by name.", &[], limits.into_iter().collect()))
        }
        Kind::Variables => names_of(json!({"type": ["string", "number", "boolean", "null"]})),
        Kind::Conditions => {
            names_of(json!({"enum": ["started", "healthy", "succeeded", "completed", "failed"]}))
        }
        Kind::Protections => list(json!({"enum": Protection::ALL.map(Protection::name)})),
        Kind::Placements => names_of(reference("text")),
        Kind::Aurora => json!({"type": ["object", "null"]}),
        Kind::TaskOrPath => json!({"anyOf": [reference("task"), {"type": "string"}]}),
    }
}

fn map(description: &str, required: &[&str], properties: Map<String, Value>) -> Value {
    json!({
        "description": description,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false
    })
}

/// A map whose keys the user chooses.
fn names_of(value: Value) -> Value {
    json!({"type": ["object", "null"], "additionalProperties": value})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn nullable(value: Value) -> Value {
    json!({"anyOf": [value, {"type": "null"}]})
}

fn list(items: Value) -> Value {
    json!({"type": ["array", "null"], "items": items})
}

/// One of `names`, or a string with a template in it.
pub(super) fn choice(names: &[&str]) -> Value {
    json!({"anyOf": [{"enum": names}, {"type": "string", "pattern": "\\{\\{"}, {"type": "null"}]})
}

fn text() -> Value {
    nullable(reference("text"))
}

fn texts() -> Value {
    list(reference("text"))
}

fn number() -> Value {
    nullable(reference("number"))
}

fn bound() -> Value {
    json!({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]})
}
