//! The JSON Schema of what `--format json` prints about tasks, from the types that are printed.

use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use super::{
    explain::Explanation,
    status::{Event, StatusList},
};

/// The output of dewar about tasks: a list of tasks (`dewar status`), one event a line (`dewar run`
/// and `dewar attach`), or a list of explanations (`dewar explain`).
#[derive(JsonSchema)]
#[schemars(untagged, title = "What dewar prints about tasks with --format json")]
#[expect(dead_code, reason = "its schema is wanted, never a value")]
enum Output {
    /// The output of `dewar status --format json`.
    StatusList(StatusList),
    /// A line of the output of `dewar run --format json` and `dewar attach --format json`.
    Event(Box<Event>),
    /// The output of `dewar explain --format json`.
    Explanations(Vec<Explanation>),
}

/// A JSON Schema that every output of a task with `--format json` follows.
pub fn output_schema() -> Value {
    schema_for!(Output).to_value()
}
