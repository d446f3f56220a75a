//! `dewar kill`: returns when the task is over.

use clap::Args;

use crate::{
    cli::{
        failure::{Code, Failure, Outcome},
        flags::seconds,
        follow::Follower,
        limit_flags::make_room,
        signals::Signals,
        view::View,
    },
    engine::{
        client::{Opened, Session, Watched},
        ipc::Request,
        store::Store,
    },
};

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The task
    pub id: String,
    /// SIGKILL at once, no final processes
    #[arg(long)]
    pub now: bool,
    /// Seconds, instead of the task's finalization_wait
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<u64>,
}

pub(crate) fn kill(store: &Store, args: &KillArgs) -> Outcome {
    let (session, status) = match Session::open(store, &args.id, make_room)? {
        Opened::Open(session, status) => (session, status),
        Opened::Over(status) => {
            let message = format!("task {:?} is over: {}", args.id, status.state);
            return Err(Failure::new(Code::Failed, message));
        }
    };
    let request = Request::Kill {
        task: Some(args.id.clone()),
        now: args.now,
        budget_us: args.wait,
    };
    // A runner that is gone: the follower finds the next one and asks again, or finds the end.
    if let Err(error) = session.request(&request) {
        tracing::info!("asking to stop: {error}");
    }
    // What happened before is no news to the user who ends it.
    let (watched, _) = Watched::begin(*status);
    let view = View::brief();
    let signals = Signals::that_leave(&view)?;
    let mut follower = Follower::new(session, watched, view, Vec::new(), signals);
    follower.repeat = Some(request);
    follower.run(Vec::new())?;
    // However it ended: it is over, and that was asked for.
    Ok(Code::Success)
}
