//! The types that programs read: the objects of `status --format json` and the events of
//! `run --format json`.
//!
//! Scripts depend on these names and on the order of the fields: fields are only ever added. Times
//! are RFC 3339 with milliseconds; facts that are absent are null. The comments here are what
//! `dewar schema --output` says of each field.

use std::{collections::BTreeMap, fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::{signal::Signal, usage_status::UsageStatus, wall_time::WallTime};
use crate::engine::plan::{RunState, TaskState, Totals};

/// The output of `status --format json`: the tasks of this machine, or the one that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusList {
    /// In the order of their ids.
    pub tasks: Vec<TaskStatus>,
}

/// One task of this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskStatus {
    /// The id, which names the task's directory.
    pub task_id: String,
    /// The name in the task file.
    pub name: String,
    /// The state that the task entered last.
    pub state: TaskState,
    /// The user that its processes run as, unless they name another one.
    pub user: String,
    /// The directory that its processes run in.
    pub sandbox: String,
    /// The path of the journal.
    pub journal: String,
    /// The root's process id; null when no root lives.
    pub root_pid: Option<u32>,
    /// The keeper's process id; null when no keeper lives.
    pub keeper_pid: Option<u32>,
    /// The runner's process id; null when no runner lives.
    pub runner_pid: Option<u32>,
    /// False when the root has become the keeper: if that process dies too, the task waits for
    /// another `dewar attach`.
    pub covered: bool,
    /// The port numbers by name.
    pub ports: BTreeMap<String, u32>,
    /// The states that the task entered, oldest first.
    pub states: Vec<StateStatus>,
    /// While the task stops: when everything that runs is killed.
    pub deadline: Option<WallTime>,
    /// The directories of the task's cgroups, one a hierarchy; absent when it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cgroups: Vec<String>,
    /// The processes in the order of the task file.
    pub processes: Vec<ProcessStatus>,
    /// The last 100 notices, oldest first.
    pub notices: Vec<NoticeEvent>,
}

impl TaskStatus {
    /// Why the task is in its state, in the words of its states, oldest first.
    pub fn why(&self) -> Option<String> {
        let reasons = self.states.iter();
        let reasons: Vec<&str> = reasons
            .filter_map(|state| state.reason.as_deref())
            .collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// What there is to say of the last state, if the task is over and not LOST: which final
    /// processes had no time.
    pub fn last_words(&self) -> Option<&str> {
        let last = self.states.last()?;
        let is_told = last.state.is_terminal() && last.state != TaskState::Lost;
        last.reason.as_deref().filter(|_| is_told)
    }
}

/// A state and when it was entered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StateStatus {
    /// The state that was entered.
    pub state: TaskState,
    /// The moment at which it was entered.
    pub at: WallTime,
    /// Why it was entered, if there is more to say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// One process of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessStatus {
    /// The name in the task file.
    pub name: String,
    /// True for a process of the finalizing plan.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// True when the task does not wait for the process.
    pub ephemeral: bool,
    /// True when the process runs again after a success.
    pub daemon: bool,
    /// WAITING before a run that is still to come, else the state of the last run.
    pub state: ProcessState,
    /// True when no run of it is to come although it is WAITING: what it waits for cannot come, or
    /// its stage is over. Absent otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// While WAITING: the processes that have to finish first.
    pub waiting_for: Vec<String>,
    /// During the pause between two runs: when the next run starts.
    #[serde(default)]
    pub next_start_at: Option<WallTime>,
    /// How many of its runs ended in which state.
    pub totals: Totals,
    /// The last 100 runs, oldest first.
    pub runs: Vec<RunStatus>,
}

/// The state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ProcessState {
    /// It does not run, and another run is still to come.
    Waiting,
    /// The start of its run is recorded, exec has not succeeded yet.
    Forked,
    /// Its run became its program.
    Running,
    /// Its last run exited with 0.
    Success,
    /// Its last run exited with another code, crashed, or could not be launched.
    Failed,
    /// Its last run was ended by a signal from outside.
    Killed,
    /// The exit code of its last run could not be learnt.
    Lost,
}

impl ProcessState {
    /// The name that scripts see.
    pub fn name(self) -> &'static str {
        match self {
            ProcessState::Waiting => "WAITING",
            ProcessState::Forked => RunState::Forked.name(),
            ProcessState::Running => RunState::Running.name(),
            ProcessState::Success => RunState::Success.name(),
            ProcessState::Failed => RunState::Failed.name(),
            ProcessState::Killed => RunState::Killed.name(),
            ProcessState::Lost => RunState::Lost.name(),
        }
    }
}

impl From<RunState> for ProcessState {
    fn from(state: RunState) -> ProcessState {
        match state {
            RunState::Forked => ProcessState::Forked,
            RunState::Running => ProcessState::Running,
            RunState::Success => ProcessState::Success,
            RunState::Failed => ProcessState::Failed,
            RunState::Killed => ProcessState::Killed,
            RunState::Lost => ProcessState::Lost,
        }
    }
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One run of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunStatus {
    /// The number of the run, from 0.
    pub run: u32,
    /// The state of the run.
    pub state: RunState,
    /// The exit code as a shell tells it; null while it runs, and when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended the run, by name.
    pub signal: Option<Signal>,
    /// True when its task had asked it to stop and its exit code says that it did: 128 and the
    /// number of the stop signal. Its state is FAILED all the same. Absent otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// Why it ended so, if there is more to say.
    pub reason: Option<String>,
    /// The process id of its first process.
    pub pid: Option<u32>,
    /// When its start was recorded.
    pub forked_at: Option<WallTime>,
    /// When exec succeeded.
    pub started_at: Option<WallTime>,
    /// When a health check found it healthy first.
    #[serde(default)]
    pub healthy_at: Option<WallTime>,
    /// When its end was recorded.
    pub stopped_at: Option<WallTime>,
    /// The name of its cgroup below the task's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Its usage of the machine; of a run that is over, only if it had a cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<UsageStatus>>,
}

impl RunStatus {
    /// When the run became its program; until then, when it was forked.
    pub fn began_at(&self) -> Option<WallTime> {
        self.started_at.or(self.forked_at)
    }

    /// The time from the exec (or, without one, the fork) to the end; `None` while there is none.
    pub fn took(&self) -> Option<Duration> {
        Some(self.stopped_at?.since(self.began_at()?))
    }
}

/// An event for a follower; `run --format json` prints one a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// The first event of all: how the task stands.
    Status(Box<TaskStatus>),
    /// The task entered a state.
    Task(TaskEvent),
    /// A run began, became its program, or ended.
    Run(RunEvent),
    /// A notice for people.
    Notice(NoticeEvent),
    /// The request was not understood, or the task cannot be looked after.
    Refused {
        /// True when another root has the task.
        #[serde(default)]
        busy: bool,
        /// Why the request was refused.
        message: String,
    },
}

/// An event that this version cannot read, although it knows the kind.
#[derive(Debug, Error)]
#[error("the runner is newer than this dewar, which cannot read an event of it: {0}")]
pub struct UnreadableEvent(serde_json::Error);

impl Event {
    /// Adds that the processes of these names are skipped from here on. Only events about the task
    /// and its runs can say so.
    pub fn skip(&mut self, names: Vec<String>) -> bool {
        match self {
            Event::Task(TaskEvent { skipped, .. }) | Event::Run(RunEvent { skipped, .. }) => {
                *skipped = Some(names);
                true
            }
            Event::Status(_) | Event::Notice(_) | Event::Refused { .. } => false,
        }
    }

    /// Reads one line that a runner wrote. A newer runner may tell of kinds of events that this
    /// version does not know: they, and notices of a new kind, are passed over (`None`).
    ///
    /// # Errors
    /// When the line tells of a known kind of event something that this version cannot read, such
    /// as a new state. Passing over that would leave a client waiting for an end it has missed.
    pub fn read(line: &[u8]) -> Result<Option<Event>, UnreadableEvent> {
        let error = match serde_json::from_slice(line) {
            Ok(event) => return Ok(Some(event)),
            Err(error) => error,
        };
        let value = serde_json::from_slice(line).unwrap_or(Value::Null);
        match value.get("event").and_then(Value::as_str) {
            Some("status" | "task" | "run" | "refused") => Err(UnreadableEvent(error)),
            _ => {
                tracing::info!("an unknown event: {error}");
                Ok(None)
            }
        }
    }
}

/// The task entered a state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskEvent {
    /// The id of the task.
    pub task_id: String,
    /// The state that was entered.
    pub state: TaskState,
    /// The moment at which it was entered.
    pub at: WallTime,
    /// Why it was entered, if there is more to say.
    pub reason: Option<String>,
    /// While the task stops: when everything that runs is killed.
    pub deadline: Option<WallTime>,
    /// The processes that are skipped from here on, if others were before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Vec<String>>,
}

/// A run changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunEvent {
    /// The id of the task.
    pub task_id: String,
    /// The name of the process.
    pub name: String,
    /// The run as it now is.
    #[serde(flatten)]
    pub run: RunStatus,
    /// After its end: when the next run starts, if the process pauses until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_start_at: Option<WallTime>,
    /// The processes that are skipped from here on, if others were before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Vec<String>>,
}

/// A notice for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeEvent {
    /// The moment of the notice.
    pub at: WallTime,
    /// The notice in words.
    pub text: String,
    /// The process that it is about.
    pub name: Option<String>,
    /// The run that it is about.
    pub run: Option<u32>,
    /// The request that it tells of, if it tells of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<NoticeKind>,
}

/// A request that a notice tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NoticeKind {
    /// A client asked for a process to run anew.
    Restart,
    /// A client asked for a run to be sent a signal.
    Signal,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field of a status, written by hand: scripts depend on these names and their order, on
    /// times in UTC with three decimals, and on null for what is not known.
    const STATUS: &str = concat!(
        r#"{"task_id":"web-1","name":"web","state":"CLEANING","user":"www","sandbox":"/s","#,
        r#""journal":"/j","root_pid":1,"keeper_pid":2,"runner_pid":null,"covered":true,"#,
        r#""ports":{"http":8080},"states":[{"state":"ACTIVE","at":"2026-11-23T16:45:45.801Z"},"#,
        r#"{"state":"CLEANING","at":"2026-11-23T16:45:50.000Z","reason":"killed"}],"#,
        r#""deadline":"2026-11-23T16:46:20.000Z","cgroups":["/sys/fs/cgroup/dewar"],"#,
        r#""processes":[{"name":"server","final":false,"ephemeral":true,"daemon":true,"#,
        r#""state":"WAITING","skipped":true,"waiting_for":["install"],"#,
        r#""next_start_at":"2026-11-23T16:46:00.010Z","#,
        r#""totals":{"success":1,"failed":2,"killed":3,"lost":4},"runs":[{"run":7,"#,
        r#""state":"KILLED","exit_code":null,"signal":"SIGKILL","reason":"restarted","pid":12,"#,
        r#""forked_at":"2026-11-23T16:45:46.000Z","started_at":"2026-11-23T16:45:46.001Z","#,
        r#""healthy_at":"2026-11-23T16:45:47.000Z","stopped_at":"2026-11-23T16:45:49.500Z","#,
        r#""cgroup":"server.7","usage":{"cpu_seconds":0.5,"throttled_seconds":0.25,"#,
        r#""memory":null,"memory_peak":4096,"memory_limit":8192,"oom_kills":0,"pids":null,"#,
        r#""pids_peak":3,"pids_refused":0}},{"run":8,"state":"FAILED","exit_code":143,"#,
        r#""signal":null,"stopped":true,"reason":null,"pid":null,"forked_at":null,"started_at":null,"#,
        r#""healthy_at":null,"stopped_at":null}]}],"#,
        r#""notices":[{"at":"2026-11-23T16:45:48.000Z","text":"SIG34 requested","#,
        r#""name":"server","run":7,"kind":"signal"},{"at":"2026-11-23T16:45:48.999Z","#,
        r#""text":"hello","name":null,"run":null}]}"#,
    );

    /// Events that followers get, one of each kind.
    const EVENTS: [&str; 5] = [
        concat!(
            r#"{"event":"task","task_id":"web-1","state":"FINALIZING","#,
            r#""at":"2026-11-23T16:45:45.801Z","reason":null,"#,
            r#""deadline":"9999-12-31T23:59:59.999Z","skipped":["last"]}"#,
        ),
        concat!(
            r#"{"event":"run","task_id":"web-1","name":"server","run":7,"state":"FORKED","#,
            r#""exit_code":null,"signal":"SIG34","reason":null,"pid":12,"#,
            r#""forked_at":"2026-11-23T16:45:46.000Z","started_at":null,"healthy_at":null,"#,
            r#""stopped_at":null,"next_start_at":"2026-11-23T16:46:00.010Z"}"#,
        ),
        concat!(
            r#"{"event":"run","task_id":"web-1","name":"server","run":7,"state":"LOST","#,
            r#""exit_code":null,"signal":null,"reason":"gone","pid":null,"forked_at":null,"#,
            r#""started_at":null,"healthy_at":null,"stopped_at":null}"#,
        ),
        concat!(
            r#"{"event":"notice","at":"2026-11-23T16:45:48.000Z","text":"restart requested","#,
            r#""name":"server","run":null,"kind":"restart"}"#,
        ),
        r#"{"event":"refused","busy":true,"message":"no"}"#,
    ];

    #[test]
    fn the_json_text_of_a_status_stays_as_it_is() {
        let status: TaskStatus = serde_json::from_str(STATUS).unwrap();
        assert_eq!(serde_json::to_string(&status).unwrap(), STATUS);
        let event = format!(r#"{{"event":"status",{}"#, &STATUS[1..]);
        let status: Event = serde_json::from_str(&event).unwrap();
        assert_eq!(serde_json::to_string(&status).unwrap(), event);
    }

    #[test]
    fn a_state_of_a_newer_version_is_an_error_that_names_it() {
        let newer = EVENTS[0].replace("FINALIZING", "ASLEEP");
        let error = Event::read(newer.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("newer than this dewar"), "{error}");
        assert!(error.contains("unknown variant `ASLEEP`"), "{error}");
        for passed_over in [
            r#"{"event":"weather","rain":true}"#.to_owned(),
            EVENTS[3].replace("\"restart\"}", "\"advice\"}"),
            "{}".to_owned(),
        ] {
            assert_eq!(Event::read(passed_over.as_bytes()).unwrap(), None);
        }
    }

    #[test]
    fn the_json_text_of_events_stays_as_it_is() {
        for text in EVENTS {
            let event: Event = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&event).unwrap(), text);
        }
    }
}
