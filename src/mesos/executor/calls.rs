//! What is sent to the agent: subscriptions, and the updates that are due.

use super::{core::ExecutorCore, interface::Action, task_entry::Connection, updates::Update};
use crate::mesos::protocol::messages::{
    ExecutorId, FrameworkId,
    executor::{Call, call},
};

impl ExecutorCore {
    pub(super) fn send_due(&mut self, clock: u64, actions: &mut Vec<Action>) {
        match self.connection {
            Connection::None { retry_at } if clock >= retry_at && !self.is_giving_up() => {
                self.connection = Connection::Asked;
                actions.push(Action::Subscribe(Box::new(self.subscription())));
            }
            Connection::Open => {
                let mut calls = Vec::new();
                for entry in self.tasks.values_mut() {
                    let mut updates = entry.updates.iter_mut();
                    let next = updates.find(|update| !update.is_acknowledged());
                    if let Some(update) = next.filter(|update| update.is_recorded())
                        && update.take(clock)
                    {
                        calls.push((update.uuid().to_vec(), update.status.clone()));
                    }
                }
                for (uuid, status) in calls {
                    let call = Call {
                        r#type: Some(call::Type::Update.into()),
                        update: Some(call::Update { status }),
                        ..self.call()
                    };
                    actions.push(Action::Post {
                        uuid,
                        call: Box::new(call),
                    });
                }
            }
            _ => {}
        }
    }

    pub(super) fn is_giving_up(&self) -> bool {
        self.ending.is_some_and(|ending| !ending.has_agent)
    }

    /// Tasks of which the agent knows no update yet, and updates that it has not acknowledged.
    fn subscription(&self) -> Call {
        let entries = self.tasks.values();
        let unknown = entries.clone().filter(|entry| {
            let mut updates = entry.updates.iter();
            !updates.any(Update::is_acknowledged)
        });
        let updates = entries.flat_map(|entry| &entry.updates);
        let unacknowledged =
            updates.filter(|update| update.is_recorded() && !update.is_acknowledged());
        Call {
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                unacknowledged_tasks: unknown.map(|entry| entry.info.clone()).collect(),
                unacknowledged_updates: unacknowledged
                    .map(|update| call::Update {
                        status: update.status.clone(),
                    })
                    .collect(),
            }),
            ..self.call()
        }
    }

    fn call(&self) -> Call {
        Call {
            executor_id: ExecutorId {
                value: self.setting.executor_id.clone(),
            },
            framework_id: FrameworkId {
                value: self.setting.framework_id.clone(),
            },
            ..Call::default()
        }
    }
}
