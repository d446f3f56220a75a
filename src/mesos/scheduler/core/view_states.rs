//! The states that people and programs read in a job's view, and their names.
//!
//! Names are for ever: scripts compare them. A client of another version that meets an unknown name
//! says so.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::state::UpdateStage;
use crate::mesos::protocol::messages::TaskState;

/// The state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// It waits for a place on an agent.
    Pending,
    /// It waits before its next launch, because it has failed.
    BackingOff,
    /// Its agent is unreachable.
    Unreachable,
    /// Its task is being killed.
    Killing,
    /// Its task runs and its health check fails.
    Unhealthy,
    /// It has ended, with success, and is not launched again.
    Finished,
    /// It has failed for good.
    Failed,
    /// Its task is in this state of Mesos.
    Task(EndState),
}

/// A state of Mesos, which is written without its `TASK_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndState(pub TaskState);

/// The state of a rolling update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateState(pub UpdateStage);

impl InstanceState {
    const NAMED: [InstanceState; 7] = [
        InstanceState::Pending,
        InstanceState::BackingOff,
        InstanceState::Unreachable,
        InstanceState::Killing,
        InstanceState::Unhealthy,
        InstanceState::Finished,
        InstanceState::Failed,
    ];
    /// The state of an instance whose task runs and is not known to be unhealthy.
    pub const RUNNING: InstanceState = InstanceState::Task(EndState(TaskState::TaskRunning));

    /// The name that scripts see.
    pub fn name(self) -> &'static str {
        match self {
            InstanceState::Pending => "PENDING",
            InstanceState::BackingOff => "BACKING_OFF",
            InstanceState::Unreachable => "UNREACHABLE",
            InstanceState::Killing => "KILLING",
            InstanceState::Unhealthy => "UNHEALTHY",
            InstanceState::Finished => "FINISHED",
            InstanceState::Failed => "FAILED",
            InstanceState::Task(state) => state.name(),
        }
    }

    fn of_name(name: &str) -> Option<InstanceState> {
        let named = InstanceState::NAMED
            .into_iter()
            .find(|state| state.name() == name);
        named.or_else(|| EndState::of_name(name).map(InstanceState::Task))
    }
}

impl EndState {
    /// The name that scripts see.
    pub fn name(self) -> &'static str {
        self.0.as_str_name().trim_start_matches("TASK_")
    }

    fn of_name(name: &str) -> Option<EndState> {
        TaskState::from_str_name(&format!("TASK_{name}")).map(EndState)
    }
}

impl UpdateState {
    /// The name that scripts see.
    pub fn name(self) -> &'static str {
        match self.0 {
            UpdateStage::UpdateFailed => "FAILED",
            stage => stage.as_str_name(),
        }
    }

    fn of_name(name: &str) -> Option<UpdateState> {
        let stage = match name {
            "FAILED" => Some(UpdateStage::UpdateFailed),
            name => UpdateStage::from_str_name(name),
        };
        stage.map(UpdateState)
    }
}

/// Writes and reads a state by its name.
macro_rules! by_name {
    ($state:ty) => {
        impl fmt::Display for $state {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl Serialize for $state {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.name())
            }
        }

        impl<'de> Deserialize<'de> for $state {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let name = String::deserialize(from)?;
                <$state>::of_name(&name)
                    .ok_or_else(|| D::Error::custom(format!("unknown state `{name}`")))
            }
        }
    };
}

by_name!(InstanceState);
by_name!(EndState);
by_name!(UpdateState);

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back<T>(state: T)
    where
        T: Copy + fmt::Debug + PartialEq + Serialize + for<'de> Deserialize<'de>,
    {
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<T>(&text).unwrap(), state, "{text}");
    }

    #[test]
    fn every_state_is_read_as_it_was_written() {
        InstanceState::NAMED.into_iter().for_each(there_and_back);
        for number in 0..32 {
            if let Ok(state) = TaskState::try_from(number) {
                there_and_back(EndState(state));
            }
            if let Ok(stage) = UpdateStage::try_from(number) {
                there_and_back(UpdateState(stage));
            }
        }
        there_and_back(InstanceState::RUNNING);
        assert_eq!(InstanceState::RUNNING.name(), "RUNNING");
        assert_eq!(UpdateState(UpdateStage::UpdateFailed).name(), "FAILED");
    }

    #[test]
    fn an_unknown_state_is_named() {
        let error = serde_json::from_str::<InstanceState>("\"ASLEEP\"").unwrap_err();
        assert!(error.to_string().contains("unknown state `ASLEEP`"));
    }
}
