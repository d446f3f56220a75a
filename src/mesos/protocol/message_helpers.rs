//! Small functions about messages that several rooms need.

use super::messages::{Resource, TaskState, value};

/// True of a state that an executor reports last.
pub fn is_terminal(state: TaskState) -> bool {
    !matches!(
        state,
        TaskState::TaskStaging
            | TaskState::TaskStarting
            | TaskState::TaskRunning
            | TaskState::TaskKilling
    )
}

/// A `ports` resource of these numbers.
pub fn ports(numbers: impl IntoIterator<Item = u16>) -> Resource {
    let range = |port: u16| value::Range {
        begin: u64::from(port),
        end: u64::from(port),
    };
    Resource {
        name: "ports".to_owned(),
        r#type: value::Type::Ranges.into(),
        ranges: Some(value::Ranges {
            range: numbers.into_iter().map(range).collect(),
        }),
        ..Resource::default()
    }
}
