//! `dewar kill`: asks for the end of a task, and returns when the task is over.

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
    /// The id of the task
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
    // When the runner is gone, the follower asks the next one again, or finds that the task is
    // over.
    if let Err(error) = session.request(&request) {
        tracing::info!("asking to stop: {error}");
    }
    // What happened before the request is not shown.
    let (watched, _) = Watched::begin(*status);
    let view = View::brief();
    let signals = Signals::that_leave(&view)?;
    let mut follower = Follower::new(session, watched, view, Vec::new(), signals);
    follower.repeat = Some(request);
    follower.run(Vec::new())?;
    // The task is over, which was asked for; how it ended makes no difference.
    Ok(Code::Success)
}
