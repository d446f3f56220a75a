//! `dewar executor`: runs as a Mesos executor, which a Mesos agent starts.

use std::path::Path;

use clap::Args;

use crate::{
    cli::{
        failure::{Code, Failure, Outcome},
        flags::BoundArgs,
    },
    mesos::{
        executor::{Bounds, ExecutorError, start},
        protocol::Wire,
    },
};

#[derive(Debug, Args)]
pub(crate) struct ExecutorArgs {
    /// How to talk to the agent
    #[arg(long, value_enum, default_value = "protobuf")]
    pub wire: Wire,
    #[command(flatten)]
    pub bounds: BoundArgs,
}

pub(crate) fn executor(args: &ExecutorArgs, root: Option<&Path>) -> Outcome {
    let bounds = Bounds {
        isolation: args.bounds.isolation,
        enforce_task: args.bounds.enforce_task,
    };
    match start(args.wire, root, bounds) {
        Ok(0) => Ok(Code::Success),
        Ok(_) => Ok(Code::Internal),
        Err(error @ ExecutorError::Environment(_)) => Err(Failure::rejected(error)
            .hint("a Mesos agent starts this; without Mesos use: dewar run FILE")),
        Err(error) => Err(Failure::rejected(error)),
    }
}
