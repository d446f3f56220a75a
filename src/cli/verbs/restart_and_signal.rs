//! `dewar restart` and `dewar signal`: ask the runner to restart a process or to send it a signal,
//! and print what came of it.

use clap::Args;

use crate::{
    cli::{
        failure::{Code, Failure, Outcome},
        limit_flags::make_room,
        terminal::{harmless, print},
    },
    engine::{
        client::{Opened, Session},
        history::{Event, NoticeKind, RunEvent, TaskStatus},
        ipc::Request,
        plan::RunState,
        store::Store,
    },
    task::StopSignal,
};

#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// The id of the task
    pub id: String,
    /// The process to restart
    pub process: String,
}

#[derive(Debug, Args)]
pub(crate) struct SignalArgs {
    /// The id of the task
    pub id: String,
    /// The process to signal
    pub process: String,
    /// By name or number: HUP, SIGUSR1, 15
    #[arg(value_name = "SIGNAL")]
    pub signal: StopSignal,
}

pub(crate) fn restart(store: &Store, args: &RestartArgs) -> Outcome {
    let request = Request::Restart {
        task: Some(args.id.clone()),
        process: args.process.clone(),
    };
    let (mut asked, status) = Asked::begin(store, &args.id, &args.process, request)?;
    let mut before = last_run(&status, &args.process);
    let last = asked.until(|event| match event {
        // A run that began before the request is not its answer.
        Event::Run(run) if run.name == args.process => {
            before = before.max(Some(run.run.run));
            None
        }
        Event::Notice(notice) => {
            let is_it = notice.kind == Some(NoticeKind::Restart);
            let is_ours = notice.name.as_deref() == Some(args.process.as_str());
            (is_it && is_ours).then_some(notice.run)
        }
        _ => None,
    })?;
    let before = last.or(before);
    // The next run is the answer, once its program runs or could not be executed.
    let run = asked.until(|event| match event {
        Event::Run(run) if run.name == args.process => {
            let is_next = before.is_none_or(|before| run.run.run > before);
            (is_next && run.run.state != RunState::Forked).then(|| run.clone())
        }
        _ => None,
    })?;
    print(&told(&run));
    Ok(match run.run.state {
        RunState::Running | RunState::Success => Code::Success,
        _ => Code::Failed,
    })
}

pub(crate) fn signal(store: &Store, args: &SignalArgs) -> Outcome {
    let request = Request::Signal {
        task: Some(args.id.clone()),
        process: args.process.clone(),
        signal: args.signal.number(),
    };
    let (mut asked, _) = Asked::begin(store, &args.id, &args.process, request)?;
    asked.until(|event| match event {
        Event::Notice(notice) => {
            let is_it = notice.kind == Some(NoticeKind::Signal);
            (is_it && notice.name.as_deref() == Some(args.process.as_str())).then_some(())
        }
        _ => None,
    })?;
    print(&format!("{}: {}", args.process, args.signal));
    Ok(Code::Success)
}

/// A conversation in which something was asked for; the answer is among the events that follow.
struct Asked<'s> {
    session: Box<Session<'s>>,
    process: String,
}

impl<'s> Asked<'s> {
    fn begin(
        store: &'s Store,
        id: &str,
        process: &str,
        request: Request,
    ) -> Result<(Asked<'s>, Box<TaskStatus>), Failure> {
        let (session, status) = match Session::open(store, id, make_room)? {
            Opened::Open(session, status) => (session, status),
            Opened::Over(status) => {
                let message = format!("task {id:?} is over: {}", status.state);
                return Err(Failure::new(Code::Failed, message));
            }
        };
        if !status.processes.iter().any(|other| other.name == process) {
            let names: Vec<&str> = status.processes.iter().map(|p| p.name.as_str()).collect();
            return Err(unknown_process(process, &names));
        }
        session.request(&request).map_err(Failure::internal)?;
        let asked = Asked {
            session,
            process: process.to_owned(),
        };
        Ok((asked, status))
    }

    /// Waits for the event that `find` looks for. A runner that dies meanwhile may or may not have
    /// recorded the request. The next runner is not asked, because the request may be carried out
    /// already.
    fn until<T>(&mut self, mut find: impl FnMut(&Event) -> Option<T>) -> Result<T, Failure> {
        loop {
            let Some(events) = self.session.events().map_err(Failure::internal)? else {
                return Err(Failure::new(Code::Failed, "the runner died over it").hint(
                    "see what came of it with `dewar status`, and ask again if nothing did",
                ));
            };
            let mut events = events.into_iter();
            while let Some(event) = events.next() {
                if let Event::Refused { message, .. } = event {
                    return Err(Failure::new(Code::Failed, message));
                }
                if let Event::Task(task) = &event
                    && task.state.is_terminal()
                {
                    let message = format!("the task ended meanwhile: {}", task.state);
                    return Err(Failure::new(Code::Failed, message));
                }
                if let Event::Run(run) = &event
                    && run.name == self.process
                    && run.run.state == RunState::Killed
                {
                    print(&told(run));
                }
                if let Some(found) = find(&event) {
                    // The events behind it may be the answer to the next question.
                    self.session.put_back(events.collect());
                    return Ok(found);
                }
            }
        }
    }
}

/// The failure that there is no such process, with the names of those that there are.
pub(super) fn unknown_process(name: &str, there: &[&str]) -> Failure {
    let near = there
        .iter()
        .map(|other| (strsim::jaro_winkler(name, other), *other))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match near {
        Some((_, near)) => format!("did you mean {near:?}?"),
        None => format!("there are: {}", there.join(", ")),
    };
    Failure::new(Code::Failed, format!("no process {name:?} in this task")).hint(hint)
}

fn last_run(status: &TaskStatus, process: &str) -> Option<u32> {
    let mut processes = status.processes.iter();
    let process = processes.find(|other| other.name == process)?;
    process.runs.last().map(|run| run.run)
}

fn told(event: &RunEvent) -> String {
    let run = &event.run;
    let more = match (&run.reason, run.pid) {
        (Some(reason), _) => format!("  {}", harmless(reason)),
        (None, Some(pid)) if run.stopped_at.is_none() => format!("  pid {pid}"),
        _ => String::new(),
    };
    format!(
        "{}  run {}  {}{more}",
        harmless(&event.name),
        run.run,
        run.state
    )
}
