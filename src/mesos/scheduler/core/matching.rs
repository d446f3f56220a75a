//! Whether an instance of a job may run on an agent, regardless of free resources.

use super::agent::Agent;
use crate::task::{Job, Rule};

/// Agents with this attribute are only for jobs that ask for its value.
const DEDICATED: &str = "dedicated";

/// Why a job may not run on an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Veto {
    /// The master has given up the agent.
    Lost,
    /// The agent's host is drained.
    Drained,
    /// The agent is reserved for jobs that name its value of `dedicated`.
    Dedicated,
    /// The agent does not have this attribute.
    Without(String),
    /// The agent's value of this attribute is not one that the job allows.
    Value(String),
}

/// Checks everything that does not depend on running tasks: attributes, dedication, draining.
pub(super) fn veto(agent: &Agent, job: &Job, is_drained: bool) -> Option<Veto> {
    if agent.is_lost {
        return Some(Veto::Lost);
    }
    if is_drained {
        return Some(Veto::Drained);
    }
    let names_it = |placement: &crate::task::Placement| {
        placement.attribute == DEDICATED && matches!(placement.rule, Rule::In(_))
    };
    let is_dedicated = !agent.values(DEDICATED).is_empty();
    if is_dedicated && !job.constraints.iter().any(names_it) {
        return Some(Veto::Dedicated);
    }
    let broken = job.constraints.iter().find(|placement| {
        let values = agent.values(&placement.attribute);
        let has = |wanted: &[String]| wanted.iter().any(|one| values.contains(&one.as_str()));
        match &placement.rule {
            Rule::In(wanted) => !has(wanted),
            Rule::NotIn(unwanted) => has(unwanted),
            // Without the attribute there is no value to count by.
            Rule::Limit(_) => values.is_empty(),
        }
    });
    broken.map(|placement| {
        let name = placement.attribute.clone();
        match agent.values(&name).is_empty() {
            true => Veto::Without(name),
            false => Veto::Value(name),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::mesos::scheduler::core::tests::job;

    fn agent(attributes: &[(&str, &str)]) -> Agent {
        let attributes = attributes.iter();
        Agent {
            hostname: "one".into(),
            attributes: attributes
                .map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]))
                .collect::<BTreeMap<_, _>>(),
            ..Agent::default()
        }
    }

    #[test]
    fn constraints() {
        let wants = |constraints: &str| job(&format!("constraints: {{{constraints}}}"));
        let value = |name: &str| Some(Veto::Value(name.to_owned()));
        let without = |name: &str| Some(Veto::Without(name.to_owned()));
        let cases = [
            ("", agent(&[]), None),
            ("rack: 'a,b'", agent(&[("rack", "b")]), None),
            ("rack: 'a,b'", agent(&[("rack", "c")]), value("rack")),
            ("rack: 'a,b'", agent(&[]), without("rack")),
            ("rack: '!a,b'", agent(&[("rack", "b")]), value("rack")),
            ("rack: '!a'", agent(&[]), None),
            ("host: 'one'", agent(&[]), None),
            ("host: '!one'", agent(&[]), value("host")),
            ("host: 'limit:1'", agent(&[]), None),
            ("rack: 'limit:1'", agent(&[]), without("rack")),
            ("", agent(&[("dedicated", "www/db")]), Some(Veto::Dedicated)),
            (
                "dedicated: 'www/db'",
                agent(&[("dedicated", "www/db")]),
                None,
            ),
            ("dedicated: 'www/db'", agent(&[]), without("dedicated")),
        ];
        for (constraints, agent, expected) in cases {
            assert_eq!(
                veto(&agent, &wants(constraints), false),
                expected,
                "{constraints} {agent:?}"
            );
        }
        assert_eq!(veto(&agent(&[]), &wants(""), true), Some(Veto::Drained));
    }
}
