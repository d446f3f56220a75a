//! A node tree as JSON, without its places.

use super::node::{Node, Value};

/// The tree as JSON, as written: a number that JSON cannot write is a string, which means the same.
pub(crate) fn to_json(node: &Node) -> serde_json::Value {
    use serde_json::Value as Json;
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(text) => match text.parse::<serde_json::Number>() {
            Ok(number) => Json::Number(number),
            Err(_) => Json::String(text.clone()),
        },
        Value::String(text) => Json::String(text.clone()),
        Value::List(list) => Json::Array(list.iter().map(to_json).collect()),
        Value::Map(entries) => {
            let entries = entries.iter();
            Json::Object(
                entries
                    .map(|entry| (entry.key.clone(), to_json(&entry.node)))
                    .collect(),
            )
        }
    }
}
