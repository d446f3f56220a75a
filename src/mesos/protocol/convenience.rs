//! Small things that everybody who handles the messages would write again.

use super::messages::{Resource, TaskState, value};

/// True when a task that was reported so will never be reported otherwise by its executor.
pub fn is_terminal(state: TaskState) -> bool {
    !matches!(
        state,
        TaskState::TaskStaging
            | TaskState::TaskStarting
            | TaskState::TaskRunning
            | TaskState::TaskKilling
    )
}

/// A `ports` resource of just these numbers.
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
