//! JSON becomes a tree of nodes. Only strict JSON is taken.

use jsonc_parser::{
    ParseOptions,
    ast::{self, ObjectPropName},
    common::{Range, Ranged},
    parse_to_ast,
};

use super::node::{Entry, Node, Span, Value};
use crate::config::diagnostic::Diagnostics;

/// Parses `source`; `None` (and a diagnostic) when it is not JSON.
pub(crate) fn parse(source: &str, diagnostics: &mut Diagnostics) -> Option<Node> {
    let strict = ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    match parse_to_ast(source, &Default::default(), &strict) {
        Ok(result) => match result.value {
            Some(value) => Some(node(value)),
            None => {
                diagnostics.error(&(0..0), "the file is empty");
                None
            }
        },
        Err(error) => {
            let message = format!("this is no JSON: {}", error.kind());
            diagnostics.error(&span(error.range()), message);
            None
        }
    }
}

fn node(value: ast::Value<'_>) -> Node {
    let span = span(value.range());
    let value = match value {
        ast::Value::StringLit(text) => Value::String(text.value.into_owned()),
        ast::Value::NumberLit(number) => Value::Number(number.value.to_owned()),
        ast::Value::BooleanLit(boolean) => Value::Bool(boolean.value),
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::Array(array) => Value::List(array.elements.into_iter().map(node).collect()),
        ast::Value::Object(object) => {
            Value::Map(object.properties.into_iter().map(entry).collect())
        }
    };
    Node::new(value, span)
}

fn entry(property: ast::ObjectProp<'_>) -> Entry {
    let (key, key_span) = match property.name {
        ObjectPropName::String(name) => (name.value.into_owned(), span(name.range)),
        ObjectPropName::Word(name) => (name.value.to_owned(), span(name.range)),
    };
    Entry {
        key,
        key_span,
        node: node(property.value),
    }
}

fn span(range: Range) -> Span {
    range.start..range.end
}
