//! What programs see: the objects of `status --format json` and the events of `run --format json`.
//!
//! Scripts depend on these names (design law): fields are only ever added. Times are RFC 3339 with
//! milliseconds; facts that are absent are null.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::usage_status::UsageStatus;
use crate::engine::plan::Totals;

/// All tasks of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusList {
    /// Newest last.
    pub tasks: Vec<TaskStatus>,
}

/// One task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// Its id.
    pub task_id: String,
    /// Its name.
    pub name: String,
    /// ACTIVE, CLEANING, FINALIZING, SUCCESS, FAILED, KILLED or LOST.
    pub state: String,
    /// Who its processes run as.
    pub user: String,
    /// The directory they run in.
    pub sandbox: String,
    /// The journal's file.
    pub journal: String,
    /// Null when nobody is there.
    pub root_pid: Option<u32>,
    /// Null when nobody is there.
    pub keeper_pid: Option<u32>,
    /// Null when nobody is there.
    pub runner_pid: Option<u32>,
    /// False when the root has become the keeper: one more death of ours needs a new `dewar`.
    pub covered: bool,
    /// Port numbers by name.
    pub ports: BTreeMap<String, u32>,
    /// The states that the task passed through.
    pub states: Vec<StateStatus>,
    /// While the task stops: when everything is killed.
    pub deadline: Option<String>,
    /// The directories of its cgroups, one a hierarchy; empty when it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cgroups: Vec<String>,
    /// In the order of the task file.
    pub processes: Vec<ProcessStatus>,
    /// What a person should know.
    pub notices: Vec<NoticeEvent>,
}

/// A state and when it was entered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateStatus {
    /// The state's name.
    pub state: String,
    /// When.
    pub at: String,
    /// Why, if there is more to say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Its name.
    pub name: String,
    /// Part of the finalizing plan.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Not waited for.
    pub ephemeral: bool,
    /// Run again after success.
    pub daemon: bool,
    /// WAITING, or the state of its last run.
    pub state: String,
    /// While WAITING: the processes that have to finish first.
    pub waiting_for: Vec<String>,
    /// While it pauses: when its next run starts.
    #[serde(default)]
    pub next_start_at: Option<String>,
    /// How its runs ended.
    pub totals: Totals,
    /// The last 100 runs.
    pub runs: Vec<RunStatus>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// Its number, from 0.
    pub run: u32,
    /// FORKED, RUNNING, SUCCESS, FAILED, KILLED or LOST.
    pub state: String,
    /// The shell's code.
    pub exit_code: Option<i32>,
    /// The signal's name.
    pub signal: Option<String>,
    /// Why, if there is more to say.
    pub reason: Option<String>,
    /// Its first process.
    pub pid: Option<u32>,
    /// The start record.
    pub forked_at: Option<String>,
    /// The exec.
    pub started_at: Option<String>,
    /// A check found it healthy.
    #[serde(default)]
    pub healthy_at: Option<String>,
    /// The end.
    pub stopped_at: Option<String>,
    /// The name of its cgroup below the task's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// What it uses, or used (only known of runs with a cgroup).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Box<UsageStatus>>,
}

impl RunStatus {
    /// From the exec (or, without one, the fork) to the end; `None` while there is none.
    pub fn took(&self) -> Option<Duration> {
        let at = |text: &Option<String>| text.as_ref()?.parse::<Timestamp>().ok();
        let began = at(&self.started_at).or_else(|| at(&self.forked_at))?;
        let took = at(&self.stopped_at)?.duration_since(began);
        Some(took.try_into().unwrap_or_default())
    }
}

/// What followers get, one a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// First of all: how things stand.
    Status(Box<TaskStatus>),
    /// The task entered a state.
    Task(TaskEvent),
    /// A run began, became a program, or ended.
    Run(RunEvent),
    /// Something a person should know.
    Notice(NoticeEvent),
    /// The request was not understood, or the task cannot be looked after.
    Refused {
        /// Somebody else looks after it.
        #[serde(default)]
        busy: bool,
        /// Why.
        message: String,
    },
}

/// The task entered a state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// The task's id.
    pub task_id: String,
    /// The state's name.
    pub state: String,
    /// When.
    pub at: String,
    /// Why, if there is more to say.
    pub reason: Option<String>,
    /// While the task stops: when everything is killed.
    pub deadline: Option<String>,
}

/// A run changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEvent {
    /// The task's id.
    pub task_id: String,
    /// The process' name.
    pub name: String,
    /// The run as it now is.
    #[serde(flatten)]
    pub run: RunStatus,
    /// After its end: when the next run starts, if the process pauses until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_start_at: Option<String>,
}

/// Something a person should know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoticeEvent {
    /// When.
    pub at: String,
    /// What.
    pub text: String,
    /// The process it is about.
    pub name: Option<String>,
    /// The run it is about.
    pub run: Option<u32>,
    /// What somebody asked for, if that is what it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<NoticeKind>,
}

/// What somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeKind {
    /// That a process be run anew.
    Restart,
    /// That a run be sent a signal.
    Signal,
}

/// RFC 3339 in UTC with milliseconds, of microseconds since 1970.
pub(super) fn time(wall_us: u64) -> String {
    let micros = i64::try_from(wall_us).unwrap_or(i64::MAX);
    match Timestamp::from_microsecond(micros) {
        Ok(timestamp) => format!("{timestamp:.3}"),
        Err(_) => "9999-12-31T23:59:59.999Z".to_owned(),
    }
}

/// `SIGKILL` for 9; `SIG34` for what has no name.
pub(super) fn signal_name(number: u32) -> String {
    let signal = i32::try_from(number)
        .ok()
        .and_then(|number| nix::sys::signal::Signal::try_from(number).ok());
    match signal {
        Some(signal) => signal.as_str().to_owned(),
        None => format!("SIG{number}"),
    }
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
        r#""state":"WAITING","waiting_for":["install"],"#,
        r#""next_start_at":"2026-11-23T16:46:00.010Z","#,
        r#""totals":{"success":1,"failed":2,"killed":3,"lost":4},"runs":[{"run":7,"#,
        r#""state":"KILLED","exit_code":null,"signal":"SIGKILL","reason":"restarted","pid":12,"#,
        r#""forked_at":"2026-11-23T16:45:46.000Z","started_at":"2026-11-23T16:45:46.001Z","#,
        r#""healthy_at":"2026-11-23T16:45:47.000Z","stopped_at":"2026-11-23T16:45:49.500Z","#,
        r#""cgroup":"server.7","usage":{"cpu_seconds":0.5,"throttled_seconds":0.25,"#,
        r#""memory":null,"memory_peak":4096,"memory_limit":8192,"oom_kills":0,"pids":null,"#,
        r#""pids_peak":3,"pids_refused":0}},{"run":8,"state":"FAILED","exit_code":3,"#,
        r#""signal":null,"reason":null,"pid":null,"forked_at":null,"started_at":null,"#,
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
            r#""deadline":"9999-12-31T23:59:59.999Z"}"#,
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
    fn the_json_text_of_events_stays_as_it_is() {
        for text in EVENTS {
            let event: Event = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&event).unwrap(), text);
        }
    }

    #[test]
    fn times_are_cut_to_milliseconds_and_end_with_the_year_9999() {
        for (wall_us, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_999_999, "1970-01-01T00:00:01.999Z"),
            (1_795_452_345_801_251, "2026-11-23T16:45:45.801Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(time(wall_us).to_string(), text);
        }
    }

    #[test]
    fn signals_without_a_name_are_told_by_number() {
        assert_eq!(signal_name(9).to_string(), "SIGKILL");
        assert_eq!(signal_name(34).to_string(), "SIG34");
        assert_eq!(signal_name(u32::MAX).to_string(), "SIG4294967295");
    }
}
