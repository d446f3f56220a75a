//! What a terminal update says: which process ended the task, how, after how many runs, and the end
//! of its standard error.

use std::{
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::interface::UpdateText;
use crate::{
    engine::{
        history::{ProcessStatus, RunStatus, TaskStatus},
        plan::{self, RunState},
    },
    mesos::protocol::messages::{
        CheckInfo, CheckStatusInfo, TaskState, check_info, check_status_info, task_status::Reason,
    },
    sandbox::open_beneath,
};

/// The beginning of the plan's reason for a task that failed its health check.
const UNHEALTHY: &str = "failed health check";
/// The beginning of the plan's reason for a task that used too much disk space.
const DISK: &str = "Disk limit exceeded";
/// The beginning of the reason of a run that ran out of memory.
const MEMORY: &str = "out of memory";
/// How much of standard error an update quotes, in bytes.
const TAIL: u64 = 512;
/// The largest process table of an update, in bytes: an agent keeps every update.
const LARGEST_DATA: usize = 64 << 10;

/// Mesos' state for the final state of a dewar task.
pub(super) fn end_of(state: plan::TaskState) -> Option<TaskState> {
    Some(match state {
        plan::TaskState::Success => TaskState::TaskFinished,
        plan::TaskState::Failed => TaskState::TaskFailed,
        plan::TaskState::Killed => TaskState::TaskKilled,
        plan::TaskState::Lost => TaskState::TaskLost,
        _ => return None,
    })
}

/// The text of the update with which the task of `status` enters `state`.
pub(super) fn update_text(
    status: &TaskStatus,
    healthy: Option<bool>,
    state: TaskState,
) -> UpdateText {
    let message = match state {
        TaskState::TaskRunning => {
            return UpdateText {
                message: healthy.map(|_| "task is healthy".to_owned()),
                healthy,
                ..UpdateText::default()
            };
        }
        TaskState::TaskFinished => "finished".to_owned(),
        TaskState::TaskKilled => "killed".to_owned(),
        TaskState::TaskLost => match status.states.last().and_then(|last| last.reason.clone()) {
            Some(reason) => format!("lost: {reason}"),
            None => "lost".to_owned(),
        },
        _ if healthy == Some(false) => {
            let reasons = status
                .states
                .iter()
                .filter_map(|state| state.reason.as_deref());
            let reason = reasons
                .into_iter()
                .find(|reason| reason.starts_with(UNHEALTHY));
            reason.unwrap_or(UNHEALTHY).to_owned()
        }
        _ => failure(status),
    };
    let message = match status.last_words() {
        Some(words) => format!("{message}; {words}"),
        None => message,
    };
    UpdateText {
        message: Some(message),
        reason: (state == TaskState::TaskFailed).then(|| reason(status)),
        healthy,
        data: data(status),
    }
}

/// Mesos has reasons for limits that were exceeded. For any other end of a process it has none; the
/// message says more.
fn reason(status: &TaskStatus) -> Reason {
    let states = status.states.iter();
    let mut reasons = states.filter_map(|state| state.reason.as_deref());
    if reasons.any(|reason| reason.starts_with(DISK)) {
        return Reason::ContainerLimitationDisk;
    }
    let run = culprit(status).and_then(|process| process.runs.last());
    let why = run.and_then(|run| run.reason.as_deref());
    match why.is_some_and(|why| why.starts_with(MEMORY)) {
        true => Reason::ContainerLimitationMemory,
        false => Reason::CommandExecutorFailed,
    }
}

/// The process that ended last, and not well, before the task began to stop: it is why the task
/// failed. What ended later had been asked to.
fn culprit(status: &TaskStatus) -> Option<&ProcessStatus> {
    let mut states = status.states.iter();
    let stopping = states.find(|state| state.state == plan::TaskState::Cleaning);
    let end = |process: &ProcessStatus| process.runs.last().and_then(|run| run.stopped_at);
    let mut ended: Vec<&ProcessStatus> = status
        .processes
        .iter()
        .filter(|process| !process.ephemeral && !process.is_final)
        .filter(|process| stopping.is_none_or(|state| end(process) <= Some(state.at)))
        .collect();
    ended.sort_by_key(|process| end(process));
    let last = |state: RunState| {
        let mut newest_first = ended.iter().rev();
        newest_first.find(|process| process.runs.last().is_some_and(|run| run.state == state))
    };
    // Runs that a signal ended are why only where none failed: max_runs bounds them.
    let killed = || last(RunState::Killed).or_else(|| last(RunState::Lost));
    last(RunState::Failed).or_else(killed).copied()
}

fn failure(status: &TaskStatus) -> String {
    let mut reasons = status
        .states
        .iter()
        .filter_map(|state| state.reason.as_deref());
    if let Some(disk) = reasons.find(|reason| reason.starts_with(DISK)) {
        return disk.to_owned();
    }
    let Some((process, run)) =
        culprit(status).and_then(|process| Some((process, process.runs.last()?)))
    else {
        let states = status.states.iter().rev();
        let stages = states.filter(|state| !state.state.is_terminal());
        let reason = stages.filter_map(|state| state.reason.clone()).next();
        return reason.map_or_else(|| "failed".to_owned(), |reason| format!("failed: {reason}"));
    };
    let count = process.totals.success
        + process.totals.failed
        + process.totals.killed
        + process.totals.lost;
    let times = if count == 1 { "run" } else { "runs" };
    let mut message = format!(
        "process {} {} after {count} {times}",
        process.name,
        how(run)
    );
    if let Some(tail) = tail_of(status, process, run) {
        message += &format!("; stderr: {tail}");
    }
    message
}

fn how(run: &RunStatus) -> String {
    match (run.exit_code, &run.signal, &run.reason) {
        (_, _, Some(reason)) => format!("failed ({reason})"),
        (Some(code), ..) => format!("exited with {code}"),
        (None, Some(signal), _) => format!("died of {signal}"),
        (None, None, None) => "failed".to_owned(),
    }
}

/// The last lines of a run's standard error, on one line and without control characters.
fn tail_of(status: &TaskStatus, process: &ProcessStatus, run: &RunStatus) -> Option<String> {
    let path = Path::new(&status.sandbox)
        .join(".logs")
        .join(&process.name)
        .join(run.run.to_string())
        .join("stderr");
    // The task may have put a link there, and the executor may be root.
    let tops = [PathBuf::from(&status.sandbox)];
    let mut file = open_beneath(&path, &tops).ok()?;
    let size = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = match size > TAIL {
        // The tail begins in the middle of a line, which is left out.
        true => format!(
            "…{}",
            text.split_once('\n').map_or(&*text, |(_, rest)| rest)
        ),
        false => text.into_owned(),
    };
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.escape_debug().to_string().replace("\\\"", "\""))
}

/// The process table as JSON: every process with its last run; `None` if it is too large.
fn data(status: &TaskStatus) -> Option<Vec<u8>> {
    let mut processes = status.processes.clone();
    for process in &mut processes {
        let older = process.runs.len().saturating_sub(1);
        process.runs.drain(..older);
    }
    let table = serde_json::json!({
        "task_id": status.task_id,
        "state": status.state,
        "processes": processes,
    });
    let bytes = table.to_string().into_bytes();
    (bytes.len() <= LARGEST_DATA).then_some(bytes)
}

/// A check's result, in the form of its kind.
pub(super) fn check_status(check: &CheckInfo, value: Option<i32>) -> CheckStatusInfo {
    let mut status = CheckStatusInfo {
        r#type: check.r#type,
        ..CheckStatusInfo::default()
    };
    match check.r#type() {
        check_info::Type::Command => {
            status.command = Some(check_status_info::Command { exit_code: value });
        }
        check_info::Type::Http => {
            let status_code = value.and_then(|value| u32::try_from(value).ok());
            status.http = Some(check_status_info::Http { status_code });
        }
        check_info::Type::Tcp => {
            let succeeded = value.map(|value| value != 0);
            status.tcp = Some(check_status_info::Tcp { succeeded });
        }
        check_info::Type::Unknown => {}
    }
    status
}
