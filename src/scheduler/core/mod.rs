//! The scheduler's decisions: a function from state, event and time to state, facts and calls.
//!
//! Invariants: what lasts changes by facts only; calls may leave when the facts of the same decision
//! are on disk; every offer is answered in the decision that it came to; an instance has at most one task
//! that is not superseded; the same history gives the same decisions.
//! It reads no clock and no file, and knows nothing of HTTP.

mod agents;
mod amounts;
mod apply;
mod chores;
mod decide;
mod decision;
mod heard;
mod matching;
mod placing;
#[cfg(test)]
mod properties;
mod quotas;
mod requests;
mod settings;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod updates;
mod views;
mod why;

pub use agents::Offer;
pub use amounts::{Amounts, NAMES, Ports, UNLIMITED, mib, thousandths};
pub use decide::{Core, task_id};
pub use decision::{Call, Decision, Event, Heard, Measure};
pub use requests::{Answer, Refusal, Request, Sort};
pub use settings::Settings;
pub use state::{Fact, Flapping, Key, Kind, State, Task, UpdateStage, Version, is_over};
pub use views::{
    AgentView, InstanceView, JobView, Latest, Quantities, QuotaView, Totals, UpdateView,
};
