//! Events, which the core takes in, and decisions, which it gives out.

use super::{agent::Offer, state::Fact};
use crate::mesos::protocol::messages::TaskState;

/// Something that the core is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// The subscription stands, with this framework id.
    Subscribed(String),
    /// The stream is over; the offers that came with it are void.
    Disconnected,
    /// The master has sent offers.
    Offers(Vec<Offer>),
    /// The master has taken back an offer, named by its id.
    Rescinded(String),
    /// The master has given up an agent, named by its id.
    AgentLost(String),
    /// The state of a task came.
    Update(StatusUpdate),
    /// Time has passed.
    Tick,
}

/// The state of a task, as an executor, an agent or the master reports it.
#[derive(Clone, Debug)]
pub struct StatusUpdate {
    /// The task's id.
    pub task: String,
    /// The task's state.
    pub state: TaskState,
    /// The id of the task's agent.
    pub agent: Option<String>,
    /// The id of this update; present when it is to be acknowledged.
    pub uuid: Option<Vec<u8>>,
    /// The result of the task's health check.
    pub healthy: Option<bool>,
    /// What the sender says about the state, for people.
    pub message: String,
    /// The name of Mesos' reason for the state.
    pub reason: String,
}

/// A call to the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Launches tasks with offers of one agent.
    Accept {
        /// The ids of all offers of the agent.
        offers: Vec<String>,
        /// The serials of the tasks.
        launches: Vec<u64>,
        /// The agent's remaining resources are not offered again for so long, in milliseconds.
        refuse_ms: u64,
    },
    /// Uses none of the offers.
    Decline {
        /// The ids of the offers.
        offers: Vec<String>,
        /// The resources are not offered again for so long, in milliseconds.
        refuse_ms: u64,
    },
    /// Kills a task.
    Kill {
        /// The task's id.
        task: String,
        /// The id of the task's agent.
        agent: Option<String>,
    },
    /// Acknowledges an update that is on disk.
    Acknowledge {
        /// The task's id.
        task: String,
        /// The id of the task's agent.
        agent: String,
        /// The update's id.
        uuid: Vec<u8>,
    },
    /// Asks for the states of tasks, named by their ids and their agents' ids; of all tasks when
    /// none is named.
    Reconcile(Vec<(String, String)>),
    /// Asks the master to send no offers.
    Suppress,
    /// Asks the master for offers, also of resources that were declined.
    Revive,
}

/// A latency for the metrics, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// From waiting for a place to having one.
    Assigned(u64),
    /// From waiting for a place to TASK_STARTING.
    Starting(u64),
    /// From waiting for a place to TASK_RUNNING.
    Running(u64),
}

/// What follows from an event or a request.
#[derive(Debug, Default)]
pub struct Decision {
    /// To be made durable.
    pub facts: Vec<Fact>,
    /// To be sent in this order, when the facts are durable.
    pub calls: Vec<Call>,
    /// To be counted.
    pub measures: Vec<Measure>,
}
