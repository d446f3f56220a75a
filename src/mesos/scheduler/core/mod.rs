//! The scheduler's decisions: a function from state, event and time to state, facts and calls.
//!
//! Invariants: what lasts changes by facts only; calls may leave when the facts of the same
//! decision are on disk; every offer is answered in the decision that it came to; an instance has
//! at most one task that is not superseded; the same history gives the same decisions. It reads no
//! clock and no file, and knows nothing of HTTP.

mod agent;
mod agents;
mod amounts;
mod apply;
mod core;
mod decision;
mod dispatch;
mod lost_tasks;
mod matching;
mod near_key;
mod offer_demand;
mod pending_reasons;
mod placing;
#[cfg(test)]
mod properties;
mod quotas;
mod reconciliation;
mod request;
mod requests;
mod retries;
mod settings;
#[cfg(test)]
mod simulation;
mod snapshot;
mod state;
mod status_updates;
mod task_ids;
#[cfg(test)]
mod tests;
mod timers;
mod touched;
mod updates;
mod view_states;
mod views;
mod waiting;

pub use agent::Offer;
pub use amounts::{Amounts, NAMES, Ports, UNLIMITED, mib, thousandths};
pub use core::SchedulerCore;
pub use decision::{Call, Decision, Event, Measure, StatusUpdate};
pub use request::{Answer, Refusal, RefusalKind, Request};
pub use settings::Settings;
pub use state::{Fact, Flapping, Key, Kind, State, Task, Version};
pub use task_ids::task_id;
pub use view_states::{EndState, InstanceState, UpdateState};
pub use views::{AgentView, InstanceView, JobView, QuotaView, Totals, UpdateView};
