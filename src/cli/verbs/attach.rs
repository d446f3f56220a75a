//! `dewar attach` and `dewar wait`: follow a task that has begun. `attach` shows what happens;
//! `wait` shows nothing.
//!
//! Ctrl-C ends the client, never the task.

use clap::Args;

use crate::{
    cli::{
        failure::{Code, Outcome},
        flags::Format,
        follow::{Follower, consoles},
        limit_flags::make_room,
        signals::Signals,
        view::View,
    },
    engine::{
        client::{Opened, Session, Start, Watched},
        history::TaskStatus,
        store::Store,
    },
};

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// The id of the task
    pub id: String,
    /// How to show what happens
    #[arg(long, value_enum, default_value = "auto")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The id of the task
    pub id: String,
}

pub(crate) fn attach(store: &Store, args: &AttachArgs) -> Outcome {
    follow(store, &args.id, View::of(args.format), true)
}

pub(crate) fn wait(store: &Store, args: &WaitArgs) -> Outcome {
    follow(store, &args.id, View::Quiet, false)
}

/// Shows all events of a task that is over; returns its exit code.
pub(super) fn show_over(status: TaskStatus, mut view: View) -> Code {
    let code = Code::of_state(status.state).unwrap_or(Code::Internal);
    let (watched, news) = Watched::begin(status);
    view.begin(&watched, &[]);
    for event in &news {
        view.event(event, &watched);
    }
    view.finish(&watched);
    code
}

fn follow(store: &Store, id: &str, view: View, with_output: bool) -> Outcome {
    let opened = Session::open(store, id, make_room)?;
    let (session, status) = match opened {
        Opened::Open(session, status) => (session, status),
        Opened::Over(status) => return Ok(show_over(*status, view)),
    };
    let shown = match store.load(id)? {
        Some(stored) if with_output => consoles(&stored.model.task, &status),
        _ => Vec::new(),
    };
    let (watched, news) = Watched::begin(*status);
    let signals = Signals::that_leave(&view)?;
    let mut follower = Follower::new(session, watched, view, shown, signals);
    follower.start = Start::Present;
    follower.run(news)
}
