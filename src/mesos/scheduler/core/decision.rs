//! What comes in and what goes out.

use super::{agent::Offer, state::Fact};
use crate::mesos::protocol::messages::TaskState;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The master knows us, by this id.
    Subscribed(String),
    /// It does not hear us any more: its offers mean nothing.
    Disconnected,
    /// Resources to be had.
    Offers(Vec<Offer>),
    /// What was offered is not to be had any more.
    Rescinded(String),
    /// The master has given up an agent.
    AgentLost(String),
    /// News of a task.
    Update(StatusUpdate),
    /// Time has passed.
    Tick,
}

/// News of a task.
#[derive(Clone, Debug)]
pub struct StatusUpdate {
    /// Its id.
    pub task: String,
    /// Its state.
    pub state: TaskState,
    /// Where it is.
    pub agent: Option<String>,
    /// Present when the news wants to be acknowledged.
    pub uuid: Option<Vec<u8>>,
    /// Whether its health check is content.
    pub healthy: Option<bool>,
    /// In words.
    pub message: String,
    /// Mesos' word for why.
    pub reason: String,
}

/// Something to tell the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Uses offers of one agent.
    Accept {
        /// All of them.
        offers: Vec<String>,
        /// Serials of the tasks that begin.
        launches: Vec<u64>,
        /// What is left is not wanted for so long.
        refuse_ms: u64,
    },
    /// Does not use them.
    Decline {
        /// All of them.
        offers: Vec<String>,
        /// They are not wanted for so long.
        refuse_ms: u64,
    },
    /// Ends a task.
    Kill {
        /// Its id.
        task: String,
        /// Where it is.
        agent: Option<String>,
    },
    /// News arrived, and is on disk.
    Acknowledge {
        /// The task's id.
        task: String,
        /// Where it is.
        agent: String,
        /// Of the news.
        uuid: Vec<u8>,
    },
    /// Asks for news of tasks, by id and agent; of all when none is named.
    Reconcile(Vec<(String, String)>),
    /// No offers, please.
    Suppress,
    /// Offers, please, the refused ones too.
    Revive,
}

/// A number for the metrics, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// From waiting for a place to having one.
    Assigned(u64),
    /// From waiting for a place to being started by an executor.
    Starting(u64),
    /// From waiting for a place to running.
    Running(u64),
}

/// What follows from an event.
#[derive(Debug, Default)]
pub struct Decision {
    /// To be made durable.
    pub facts: Vec<Fact>,
    /// To be made when the facts are durable, in this order.
    pub calls: Vec<Call>,
    /// To be counted.
    pub measures: Vec<Measure>,
}
