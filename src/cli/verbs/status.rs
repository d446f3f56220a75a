//! `dewar status`: prints the tasks of this machine. It reads their journals and changes nothing.

use std::fmt::Write;

use clap::Args;

use crate::{
    cli::{
        failure::{Code, Failure, Outcome},
        flags::StatusFormat,
        plain::table,
        terminal::{Style, complain, harmless, put},
    },
    engine::{
        client::Watched,
        history::{ProcessState, StatusList, TaskStatus},
        store::{Look, Measure, Store, StoreError},
    },
};

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// One task only
    pub id: Option<String>,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    pub format: StatusFormat,
}

pub(crate) fn status(store: &Store, args: &StatusArgs) -> Outcome {
    let mut code = Code::Success;
    let tasks = match &args.id {
        Some(id) => {
            let stored = store
                .load(id)
                .map_err(|error| Failure::new(Code::Failed, error))?;
            let stored = stored
                .ok_or_else(|| Failure::new(Code::Failed, format!("task {id:?} never began")))?;
            // Beside the status: it is not the task's fault.
            if let Some(beyond) = &stored.beyond {
                complain(&format!("note: {beyond}"));
            }
            vec![measured(stored.status, &mut Look::default())]
        }
        None => {
            let ids = store.ids().map_err(Failure::rejected)?;
            let mut look = Look::default();
            let mut tasks = Vec::new();
            for id in ids {
                match store.load(&id) {
                    Ok(stored) => {
                        if let Some(beyond) = stored.as_ref().and_then(|one| one.beyond.as_ref()) {
                            complain(&format!("note: {beyond}"));
                        }
                        tasks.extend(stored.map(|stored| measured(stored.status, &mut look)));
                    }
                    // The agent removed a task that lived in its sandbox.
                    Err(StoreError::Unknown(_)) => {}
                    // One bad journal must not hide the others.
                    Err(error) => {
                        complain(&format!("error: {id}: {error}"));
                        code = Code::Failed;
                    }
                }
            }
            tasks
        }
    };
    let style = Style::of(&std::io::stdout());
    let text = match args.format {
        StatusFormat::Json => {
            let text = serde_json::to_string_pretty(&StatusList { tasks });
            text.map_err(|error| Failure::new(Code::Internal, error))? + "\n"
        }
        StatusFormat::Text => match (&args.id, tasks.as_slice()) {
            (Some(_), [task]) => one(task, style),
            (_, []) => "no tasks\n".to_owned(),
            (_, tasks) => list(tasks, style),
        },
    };
    put(&mut std::io::stdout(), text.as_bytes());
    Ok(code)
}

/// `status` with what the runs use that are alive.
fn measured(mut status: TaskStatus, look: &mut Look) -> TaskStatus {
    look.measure(&mut status, Measure::Whole);
    status
}

fn list(tasks: &[TaskStatus], style: Style) -> String {
    let width = tasks.iter().map(|t| t.task_id.chars().count()).max();
    let width = width.unwrap_or(0).max(4);
    let mut text = format!(
        "{:width$}  {:10}  {:10}  SINCE\n",
        "TASK", "STATE", "PROCESSES"
    );
    for task in tasks {
        let done = task
            .processes
            .iter()
            .filter(|p| p.state == ProcessState::Success)
            .count();
        let progress = format!("{done}/{}", task.processes.len());
        let since = task.states.last();
        let since = since.map_or_else(String::new, |state| state.at.to_string());
        let id = harmless(&task.task_id);
        let state = style.state(task.state, 10);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{id:width$}  {state}  {progress:10}  {since}{}",
            keeper_note(task)
        );
    }
    text
}

/// Says whether a task that is not over has lost its keeper or its root.
fn keeper_note(task: &TaskStatus) -> &'static str {
    match task.keeper_pid {
        _ if task.state.is_terminal() => "",
        None => "  (no keeper looks after it; dewar attach takes it up)",
        Some(_) if !task.covered => "  (its root has become its keeper)",
        Some(_) => "",
    }
}

fn one(task: &TaskStatus, style: Style) -> String {
    let mut text = String::new();
    let state = style.state(task.state, 0);
    let reason = task.why();
    let reason = reason.map_or_else(String::new, |reason| format!("  ({})", harmless(&reason)));
    let _ = writeln!(
        text,
        "{}  {state}{reason}{}",
        harmless(&task.task_id),
        keeper_note(task)
    );
    let _ = writeln!(
        text,
        "  user {}  sandbox {}",
        harmless(&task.user),
        harmless(&task.sandbox)
    );
    for (name, port) in &task.ports {
        let _ = writeln!(text, "  port {}={port}", harmless(name));
    }
    if let Some(deadline) = &task.deadline {
        let _ = writeln!(text, "  SIGKILL at {deadline}");
    }
    let (watched, _) = Watched::begin(task.clone());
    for line in table(&watched, style, u16::MAX) {
        let _ = writeln!(text, "{line}");
    }
    for notice in &task.notices {
        let about = notice
            .name
            .as_deref()
            .map(|name| format!("{}: ", harmless(name)));
        let about = about.unwrap_or_default();
        let _ = writeln!(text, "  note: {about}{}", harmless(&notice.text));
    }
    text
}
