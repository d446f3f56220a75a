//! `dewar tail`: prints the output of one process of a task, or of all.

use std::path::Path;

use clap::Args;

use crate::{
    cli::{
        failure::{Code, Failure, Outcome},
        follow::Follower,
        limit_flags::make_room,
        signals::Signals,
        view::View,
    },
    engine::{
        client::{LogFollower, Opened, Output, Session, Start, Watched},
        history::TaskStatus,
        store::Store,
    },
};

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// The id of the task
    pub id: String,
    /// One process only
    pub process: Option<String>,
    /// Go on until the task ends
    #[arg(short, long)]
    pub follow: bool,
    /// Lines to begin with, per file
    #[arg(short = 'n', long, default_value_t = 10)]
    pub lines: usize,
}

pub(crate) fn tail(store: &Store, args: &TailArgs) -> Outcome {
    let stored = store
        .load(&args.id)
        .map_err(|error| Failure::new(Code::Failed, error))?;
    let stored = stored
        .ok_or_else(|| Failure::new(Code::Failed, format!("task {:?} never began", args.id)))?;
    let names = names(&stored.status, args.process.as_deref())?;
    let mut logs = LogFollower::new().map_err(Failure::internal)?;
    let mut view = View::output_only();
    let (watched, _) = Watched::begin(stored.status.clone());
    let sandbox = Path::new(&stored.status.sandbox);
    for process in &stored.status.processes {
        if let Some(run) = process.runs.last()
            && names.contains(&process.name)
        {
            logs.add(sandbox, &process.name, run.run, Start::Last(args.lines));
            view.output(&logs.lines(), &watched);
            if !args.follow {
                let mut out = |lines: &[Output]| {
                    view.output(lines, &watched);
                };
                logs.finish(&process.name, run.run, &mut out);
            }
        }
    }
    if !args.follow {
        return Ok(Code::Success);
    }
    match Session::open(store, &args.id, make_room)? {
        Opened::Over(_) => {
            for process in &stored.status.processes {
                if let Some(run) = process.runs.last() {
                    let mut out = |lines: &[Output]| {
                        view.output(lines, &watched);
                    };
                    logs.finish(&process.name, run.run, &mut out);
                }
            }
            Ok(Code::Success)
        }
        Opened::Open(session, status) => {
            // Runs that ended before are not shown again; the logs that are followed already go on.
            let mut watched = watched;
            let news = watched.again(*status);
            let signals = Signals::that_leave(&view)?;
            let follower = Follower::new(session, watched, view, names, signals);
            follower.run_with(news, logs)?;
            Ok(Code::Success)
        }
    }
}

fn names(status: &TaskStatus, wanted: Option<&str>) -> Result<Vec<String>, Failure> {
    let all: Vec<String> = status.processes.iter().map(|p| p.name.clone()).collect();
    match wanted {
        None => Ok(all),
        Some(wanted) if all.iter().any(|name| name == wanted) => Ok(vec![wanted.to_owned()]),
        Some(wanted) => Err(Failure::new(
            Code::Failed,
            format!("no process {wanted:?} in this task"),
        )
        .hint(format!("there are: {}", all.join(", ")))),
    }
}
