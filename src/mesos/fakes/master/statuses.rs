//! The master's own messages about tasks.

use crate::mesos::protocol::messages::{
    AgentId, TaskId, TaskState, TaskStatus,
    scheduler::{Event, event},
    task_status::{Reason, Source},
};

/// The master's own update about a task.
pub(super) fn master_status(id: &str, agent: &str, state: TaskState, reason: Reason) -> TaskStatus {
    TaskStatus {
        task_id: TaskId {
            value: id.to_owned(),
        },
        state: state.into(),
        agent_id: Some(AgentId {
            value: agent.to_owned(),
        }),
        source: Some(Source::Master.into()),
        reason: Some(reason.into()),
        ..TaskStatus::default()
    }
}

pub(super) fn update_event(status: TaskStatus) -> Event {
    Event {
        r#type: Some(event::Type::Update.into()),
        update: Some(event::Update { status }),
        ..Event::default()
    }
}
