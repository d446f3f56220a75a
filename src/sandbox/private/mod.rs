//! A task that sees little of its machine: namespaces, a file system of its own, fewer rights.
//!
//! Everything is built by one process, the namespaces' *init*, as one straight list of steps
//! (`steps`), inside of its own mount namespace: whatever goes wrong, its exit undoes all of them,
//! and so does any end of it, later. The task's processes enter what it holds. The init waits,
//! reaps what is orphaned, and does nothing else. Rootless through a user namespace, in which the
//! user is who they are outside.

mod init;
mod rules;
mod seccomp;
mod step;
mod steps;

pub use init::{BuildError, InitProcess, own_arguments, wipe_arguments};
pub use rules::{KEPT_CAPABILITIES, RuleError, landlock_abi, ruleset};
pub use seccomp::filters;
pub use steps::{Blueprint, BlueprintError, Place};
