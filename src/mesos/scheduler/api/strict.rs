//! JSON bodies, read strictly: every field that a client sends is a field that the request has.
//!
//! Otherwise a misspelt `instances` would name no instances, and a `kill` would end the whole job.
//! A body is one JSON object, each field is there at most once, and nothing follows the object.
//! Which fields a request has is asked of its type (through serde), so no list of names can differ
//! from it. It does not check values beyond their types.

use std::{fmt, vec};

use hyper::StatusCode;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, Visitor},
    forward_to_deserialize_any,
};
use serde_json::Value;
use thiserror::Error;

use super::bad_request::Refused;
use crate::config::near_name;

/// Why a body cannot be read.
#[derive(Debug, Error)]
pub(super) enum BodyError {
    /// Not JSON, not an object, or more than one value.
    #[error("the request's body cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// There is no body, and the request needs one.
    #[error("the request has no body: expected a JSON object with {}", list(.known))]
    Absent {
        /// The request's fields.
        known: &'static [&'static str],
    },
    /// A field that the request does not have.
    #[error("the request has no field `{name}`")]
    Unknown {
        /// As the client wrote it.
        name: String,
        /// The request's fields.
        known: &'static [&'static str],
    },
    /// A field is there more than once.
    #[error("the field `{0}` is there twice")]
    Twice(String),
    /// A field that the request needs is not there.
    #[error("the field `{0}` is missing")]
    Missing(&'static str),
    /// A field's value is of another type, or out of range.
    #[error("the field `{name}`: {why}")]
    Value {
        /// The name of the field.
        name: String,
        /// What serde says of the value.
        why: serde_json::Error,
    },
    /// Any other complaint of serde.
    #[error("the request's body cannot be read: {0}")]
    Other(String),
}

impl serde::de::Error for BodyError {
    fn custom<T: fmt::Display>(message: T) -> BodyError {
        BodyError::Other(message.to_string())
    }

    fn missing_field(field: &'static str) -> BodyError {
        BodyError::Missing(field)
    }
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Refused {
        let refused = Refused::new(StatusCode::BAD_REQUEST, error.to_string());
        let BodyError::Unknown { name, known } = &error else {
            return refused;
        };
        refused.hint(match near_name(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "it takes no fields".to_owned(),
            None => format!("its fields: {}", list(known)),
        })
    }
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Reads a body that the request needs.
pub(super) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    T::deserialize(Strict {
        given: fields(bytes)?,
        is_needed: true,
    })
}

/// As [`body`], but a request without a body means the same as `{}`.
pub(super) fn body_or_nothing<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    T::deserialize(Strict {
        given: fields(bytes)?,
        is_needed: false,
    })
}

/// The fields of the object, in the client's order; `None` without a body.
fn fields(bytes: &[u8]) -> Result<Option<Vec<(String, Value)>>, BodyError> {
    match bytes.is_empty() {
        true => Ok(None),
        false => Ok(Some(serde_json::from_slice::<Object>(bytes)?.0)),
    }
}

/// Any JSON object, with every field as often as it was written.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Object(fields))
    }
}

/// Gives an object's fields to a struct that has all of them.
struct Strict {
    given: Option<Vec<(String, Value)>>,
    is_needed: bool,
}

impl<'de> Deserializer<'de> for Strict {
    type Error = BodyError;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, BodyError> {
        if self.is_needed && self.given.is_none() {
            return Err(BodyError::Absent { known });
        }
        let given = self.given.unwrap_or_default();
        for (index, (name, _)) in given.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let name = name.clone();
                return Err(BodyError::Unknown { name, known });
            }
            if given[..index].iter().any(|(before, _)| before == name) {
                return Err(BodyError::Twice(name.clone()));
            }
        }
        visitor.visit_map(Fields {
            left: given.into_iter(),
            current: None,
        })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, BodyError> {
        // A type that is not a struct has no fields.
        self.deserialize_struct("", &[], visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The fields one after the other, each with its name for the error about its value.
struct Fields {
    left: vec::IntoIter<(String, Value)>,
    current: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = BodyError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, BodyError> {
        self.current = self.left.next();
        let name = self.current.as_ref().map(|(name, _)| name.as_str());
        name.map(|name| seed.deserialize(name.into_deserializer()))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, BodyError> {
        let (name, value) = self.current.take().unwrap_or_default();
        seed.deserialize(value)
            .map_err(|why| BodyError::Value { name, why })
    }
}
