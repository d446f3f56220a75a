//! What the fake agent decides: which calls of the executor it accepts, what it answers, which
//! updates the framework sees. A function without sockets.
//!
//! Where Mesos' documentation and the real agent differ, this follows the agent: acknowledgements
//! come at once, a KILL without a stream is lost, updates are refused (503) during recovery.

use std::collections::BTreeMap;

use crate::mesos::protocol::{
    is_terminal,
    messages::{
        AgentId, AgentInfo, DurationInfo, ExecutorId, ExecutorInfo, FrameworkId, FrameworkInfo,
        KillPolicy, TaskGroupInfo, TaskId, TaskInfo, TaskState, TaskStatus,
        executor::{Call, Event, call, event},
        task_status::{Reason, Source},
    },
};

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    pub why: &'static str,
}

/// The answer to a call.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// The call opens a stream that begins with these events.
    Stream(Vec<Event>),
    /// The call is answered with 202; these events go to the open stream.
    Accepted(Vec<Event>),
}

#[derive(Debug)]
struct KnownTask {
    info: TaskInfo,
    /// Its LAUNCH was sent on a stream.
    launched: bool,
    state: TaskState,
    uuids: Vec<Vec<u8>>,
}

/// The fake agent, without its sockets.
#[derive(Debug)]
pub(super) struct AgentCore {
    framework_id: String,
    executor_id: String,
    agent_id: String,
    tasks: BTreeMap<String, KnownTask>,
    /// Launches that wait for a stream.
    waiting: Vec<Event>,
    /// The updates that the framework saw, in order.
    seen: Vec<TaskStatus>,
    /// The agent recovers after a restart, and refuses updates.
    pub recovering: bool,
    /// The executor was asked to shut down; every stream begins with that.
    pub shut_down: bool,
}

impl AgentCore {
    pub fn new(framework_id: &str, executor_id: &str, agent_id: &str) -> AgentCore {
        AgentCore {
            framework_id: framework_id.to_owned(),
            executor_id: executor_id.to_owned(),
            agent_id: agent_id.to_owned(),
            tasks: BTreeMap::new(),
            waiting: Vec::new(),
            seen: Vec::new(),
            recovering: false,
            shut_down: false,
        }
    }

    pub fn seen(&self) -> &[TaskStatus] {
        &self.seen
    }

    /// Queues tasks for the executor, as a group or one by one; returns the events for a stream
    /// that is open.
    pub fn launch(&mut self, tasks: Vec<TaskInfo>, as_group: bool, has_stream: bool) -> Vec<Event> {
        for info in &tasks {
            let known = KnownTask {
                info: info.clone(),
                launched: has_stream,
                state: TaskState::TaskStaging,
                uuids: Vec::new(),
            };
            self.tasks.insert(info.task_id.value.clone(), known);
        }
        let events: Vec<Event> = match as_group {
            true => vec![Event {
                r#type: Some(event::Type::LaunchGroup.into()),
                launch_group: Some(event::LaunchGroup {
                    task_group: TaskGroupInfo { tasks },
                }),
                ..Event::default()
            }],
            false => {
                let launch = |task| Event {
                    r#type: Some(event::Type::Launch.into()),
                    launch: Some(event::Launch { task }),
                    ..Event::default()
                };
                tasks.into_iter().map(launch).collect()
            }
        };
        match has_stream {
            true => events,
            false => {
                self.waiting.extend(events);
                Vec::new()
            }
        }
    }

    pub fn kill(&self, task: &str, grace_nanos: Option<i64>) -> Event {
        Event {
            r#type: Some(event::Type::Kill.into()),
            kill: Some(event::Kill {
                task_id: TaskId {
                    value: task.to_owned(),
                },
                kill_policy: grace_nanos.map(|nanoseconds| KillPolicy {
                    grace_period: Some(DurationInfo { nanoseconds }),
                }),
            }),
            ..Event::default()
        }
    }

    pub fn shutdown() -> Event {
        Event {
            r#type: Some(event::Type::Shutdown.into()),
            ..Event::default()
        }
    }

    pub fn call(&mut self, call: Call) -> Result<Answer, Refusal> {
        let refuse = |status, why| Err(Refusal { status, why });
        if call.framework_id.value != self.framework_id {
            return refuse(400, "Framework cannot be found");
        }
        if call.executor_id.value != self.executor_id {
            return refuse(400, "Executor cannot be found");
        }
        match call.r#type() {
            call::Type::Subscribe => {
                let Some(subscribe) = call.subscribe else {
                    return refuse(400, "Expecting 'subscribe' to be present");
                };
                self.subscribe(subscribe).map(Answer::Stream)
            }
            call::Type::Update => {
                let Some(update) = call.update else {
                    return refuse(400, "Expecting 'update' to be present");
                };
                if self.recovering {
                    return refuse(503, "Agent has not finished recovery");
                }
                let event = self.update(update.status)?;
                Ok(Answer::Accepted(event.into_iter().collect()))
            }
            call::Type::Message | call::Type::Heartbeat => Ok(Answer::Accepted(Vec::new())),
            call::Type::Unknown => refuse(400, "Expecting 'type' to be known"),
        }
    }

    fn subscribe(&mut self, subscribe: call::Subscribe) -> Result<Vec<Event>, Refusal> {
        if self.shut_down {
            return Ok(vec![AgentCore::shutdown()]);
        }
        let mut events = vec![self.subscribed()];
        for update in subscribe.unacknowledged_updates {
            events.extend(self.update(update.status)?);
        }
        // A task that was launched and that the executor does not know is lost.
        let known = |id: &str| {
            let mut tasks = subscribe.unacknowledged_tasks.iter();
            tasks.any(|info| info.task_id.value == id)
        };
        let staging = self.tasks.iter().filter(|(id, task)| {
            task.launched && task.state == TaskState::TaskStaging && !known(id)
        });
        let lost: Vec<String> = staging.map(|(id, _)| id.clone()).collect();
        for id in lost {
            self.end(&id, TaskState::TaskLost, Reason::AgentRestarted);
        }
        for known in self.tasks.values_mut() {
            known.launched = true;
        }
        events.append(&mut self.waiting);
        Ok(events)
    }

    fn subscribed(&self) -> Event {
        let framework_id = FrameworkId {
            value: self.framework_id.clone(),
        };
        Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(event::Subscribed {
                executor_info: ExecutorInfo {
                    executor_id: ExecutorId {
                        value: self.executor_id.clone(),
                    },
                    framework_id: Some(framework_id.clone()),
                    ..ExecutorInfo::default()
                },
                framework_info: FrameworkInfo {
                    user: "root".to_owned(),
                    name: "fake".to_owned(),
                    id: Some(framework_id),
                    checkpoint: Some(true),
                    ..FrameworkInfo::default()
                },
                agent_info: AgentInfo {
                    hostname: "localhost".to_owned(),
                    id: Some(AgentId {
                        value: self.agent_id.clone(),
                    }),
                    ..AgentInfo::default()
                },
            }),
            ..Event::default()
        }
    }

    /// Takes in an update of the executor, and returns its acknowledgement. A repeated update is
    /// acknowledged again.
    fn update(&mut self, status: TaskStatus) -> Result<Option<Event>, Refusal> {
        let refuse = |why| Err(Refusal { status: 400, why });
        if status.source != Some(Source::Executor.into()) {
            return refuse("Received Call from executor with an unexpected source");
        }
        if status.uuid().len() != 16 {
            return refuse("Expecting 'uuid' to be a valid UUID");
        }
        if status.state() == TaskState::TaskStaging {
            return refuse("Received TASK_STAGING from executor");
        }
        let foreign = |id: &ExecutorId| id.value != self.executor_id;
        if status.executor_id.as_ref().is_some_and(foreign) {
            return refuse("ExecutorID in Call does not match");
        }
        let Some(known) = self.tasks.get_mut(&status.task_id.value) else {
            // The framework sees the update of an unknown task, but it is never acknowledged.
            self.seen.push(status);
            return Ok(None);
        };
        let acknowledged = Event {
            r#type: Some(event::Type::Acknowledged.into()),
            acknowledged: Some(event::Acknowledged {
                task_id: status.task_id.clone(),
                uuid: status.uuid().to_vec(),
            }),
            ..Event::default()
        };
        if !known.uuids.iter().any(|uuid| uuid == status.uuid()) {
            known.uuids.push(status.uuid().to_vec());
            known.state = status.state();
            self.seen.push(status);
        }
        Ok(Some(acknowledged))
    }

    /// The executor's container is gone: every task that is not over has failed.
    pub fn executor_gone(&mut self) {
        let alive = self
            .tasks
            .iter()
            .filter(|(_, task)| !is_terminal(task.state));
        let ids: Vec<String> = alive.map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.end(&id, TaskState::TaskFailed, Reason::ExecutorTerminated);
        }
    }

    fn end(&mut self, id: &str, state: TaskState, reason: Reason) {
        if let Some(known) = self.tasks.get_mut(id) {
            known.state = state;
            self.seen.push(TaskStatus {
                task_id: known.info.task_id.clone(),
                state: state.into(),
                source: Some(Source::Agent.into()),
                reason: Some(reason.into()),
                ..TaskStatus::default()
            });
        }
    }
}
