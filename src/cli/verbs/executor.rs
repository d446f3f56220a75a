//! `dewar executor`: becomes a Mesos executor.

use std::path::Path;

use crate::{
    cli::{
        args::ExecutorArgs,
        failure::{Code, Failure, Outcome},
    },
    mesos::executor::{Bounds, ExecutorError, begin},
};

pub(crate) fn executor(args: &ExecutorArgs, root: Option<&Path>) -> Outcome {
    let bounds = Bounds {
        isolation: args.bounds.isolation,
        enforce_task: args.bounds.enforce_task,
    };
    match begin(args.wire, root, bounds) {
        Ok(0) => Ok(Code::Success),
        Ok(_) => Ok(Code::Internal),
        Err(error @ ExecutorError::Environment(_)) => Err(Failure::rejected(error)
            .hint("a Mesos agent starts this; without Mesos use: dewar run FILE")),
        Err(error) => Err(Failure::rejected(error)),
    }
}
