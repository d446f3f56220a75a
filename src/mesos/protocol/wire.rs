//! The two wire formats: protobuf, and JSON as Mesos writes it (proto field names, enums by name,
//! bytes in base64, 64-bit integers as numbers, unknown fields ignored).

use std::sync::OnceLock;

use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};
use thiserror::Error;

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Wire {
    /// The content type `application/x-protobuf`.
    #[default]
    Protobuf,
    /// The content type `application/json`.
    Json,
}

/// Why bytes are no message.
#[derive(Debug, Error)]
pub enum WireError {
    /// They are not protobuf.
    #[error("not the expected protobuf message: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// They are not JSON, or not JSON of this message.
    #[error("not the expected JSON message: {0}")]
    Json(#[from] serde_json::Error),
    /// The build has no description of this message.
    #[error("no description of {0}")]
    Undescribed(&'static str),
}

/// A message of `proto/mesos` and its full name there.
pub trait Named: Message + Default {
    /// The full name, as in `mesos.v1.TaskInfo`.
    const NAME: &'static str;
}

macro_rules! named {
    ($($message:ty => $name:literal),* $(,)?) => {
        $(impl Named for $message { const NAME: &'static str = $name; })*
    };
}

named! {
    super::messages::executor::Call => "mesos.v1.executor.Call",
    super::messages::executor::Event => "mesos.v1.executor.Event",
    super::messages::scheduler::Call => "mesos.v1.scheduler.Call",
    super::messages::scheduler::Event => "mesos.v1.scheduler.Event",
    super::messages::TaskInfo => "mesos.v1.TaskInfo",
    super::messages::TaskStatus => "mesos.v1.TaskStatus",
    super::messages::ExecutorInfo => "mesos.v1.ExecutorInfo",
}

impl Wire {
    /// The value of Content-Type and Accept, which Mesos compares exactly.
    pub fn content_type(self) -> &'static str {
        match self {
            Wire::Protobuf => "application/x-protobuf",
            Wire::Json => "application/json",
        }
    }

    /// Writes a message.
    ///
    /// # Errors
    /// Only for JSON, and only for numbers that JSON cannot write (an infinity).
    pub fn encode<M: Named>(self, message: &M) -> Result<Vec<u8>, WireError> {
        match self {
            Wire::Protobuf => Ok(message.encode_to_vec()),
            Wire::Json => {
                let dynamic = DynamicMessage::decode(
                    descriptor(M::NAME)?,
                    message.encode_to_vec().as_slice(),
                )?;
                let options = SerializeOptions::new()
                    .stringify_64_bit_integers(false)
                    .use_proto_field_name(true);
                let mut bytes = Vec::new();
                let mut serializer = serde_json::Serializer::new(&mut bytes);
                dynamic.serialize_with_options(&mut serializer, &options)?;
                Ok(bytes)
            }
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// If the bytes are no such message.
    pub fn decode<M: Named>(self, bytes: &[u8]) -> Result<M, WireError> {
        match self {
            Wire::Protobuf => Ok(M::decode(bytes)?),
            Wire::Json => {
                let mut deserializer = serde_json::Deserializer::from_slice(bytes);
                let options = DeserializeOptions::new().deny_unknown_fields(false);
                let dynamic = DynamicMessage::deserialize_with_options(
                    descriptor(M::NAME)?,
                    &mut deserializer,
                    &options,
                )?;
                deserializer.end()?;
                Ok(M::decode(dynamic.encode_to_vec().as_slice())?)
            }
        }
    }
}

fn descriptor(name: &'static str) -> Result<MessageDescriptor, WireError> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    const BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    let pool = POOL.get_or_init(|| DescriptorPool::decode(BYTES).ok());
    let found = pool
        .as_ref()
        .and_then(|pool| pool.get_message_by_name(name));
    found.ok_or(WireError::Undescribed(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mesos::protocol::messages::{
        AgentId, Resource, TaskId, TaskInfo,
        executor::{Call, Event, event},
        value,
    };

    fn launch() -> Event {
        Event {
            r#type: Some(event::Type::Launch.into()),
            launch: Some(event::Launch {
                task: TaskInfo {
                    name: "web".to_owned(),
                    task_id: TaskId {
                        value: "web-0".to_owned(),
                    },
                    agent_id: AgentId {
                        value: "a".to_owned(),
                    },
                    data: Some(vec![0, 255, 1]),
                    resources: vec![Resource {
                        name: "ports".to_owned(),
                        r#type: value::Type::Ranges.into(),
                        ranges: Some(value::Ranges {
                            range: vec![value::Range {
                                begin: 31000,
                                end: 31001,
                            }],
                        }),
                        ..Resource::default()
                    }],
                    ..TaskInfo::default()
                },
            }),
            ..Event::default()
        }
    }

    #[test]
    fn json_is_as_mesos_writes_it() {
        let json = Wire::Json.encode(&launch()).unwrap();
        let expected = r#"{"type":"LAUNCH","launch":{"task":{"name":"web","task_id":{"value":"web-0"},"agent_id":{"value":"a"},"resources":[{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":31000,"end":31001}]}}],"data":"AP8B"}}}"#;
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    #[test]
    fn both_formats_carry_the_same() {
        for wire in [Wire::Protobuf, Wire::Json] {
            let bytes = wire.encode(&launch()).unwrap();
            assert_eq!(wire.decode::<Event>(&bytes).unwrap(), launch(), "{wire:?}");
        }
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let json = br#"{"type":"ERROR","error":{"message":"x","more":[1]},"later":{"a":null}}"#;
        let event: Event = Wire::Json.decode(json).unwrap();
        assert_eq!(event.error.unwrap().message, "x");
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for wire in [Wire::Protobuf, Wire::Json] {
                let _ = wire.decode::<Event>(&bytes);
                let _ = wire.decode::<Call>(&bytes);
            }
        }

        #[test]
        fn damaged_messages_are_no_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            for wire in [Wire::Protobuf, Wire::Json] {
                let mut bytes = wire.encode(&launch()).unwrap();
                let at = at.index(bytes.len());
                bytes[at] = byte;
                let _ = wire.decode::<Event>(&bytes);
            }
        }
    }
}
