//! Jobs, agents and quotas as tables for people.

use std::io::stdout;

use jiff::Timestamp;
use serde_json::Value;

use super::progress::words;
use crate::{
    cli::{
        failure::Failure,
        terminal::{Colour, Style, harmless, print},
    },
    mesos::scheduler::core::{AgentView, InstanceState, InstanceView, JobView, QuotaView},
};

/// Printed above what may be out of date.
const STALE: &str = "no master hears the scheduler: what follows is from before";

pub(super) fn jobs(answer: &Value) -> Result<(), Failure> {
    let jobs: Vec<JobView> = read(&answer["jobs"])?;
    if jobs.is_empty() {
        print("no jobs");
    }
    if jobs.iter().any(|job| !job.connected) {
        print(STALE);
    }
    let width = jobs.iter().map(|job| job.key.len()).max().unwrap_or(0);
    for job in jobs {
        print(&format!("{:width$}  {}", harmless(&job.key), words(&job)));
        for text in [&job.why, &job.trouble].into_iter().flatten() {
            print(&format!("{:width$}  {}", "", harmless(text)));
        }
    }
    Ok(())
}

pub(super) fn job(answer: &Value) -> Result<(), Failure> {
    let job: JobView = read(answer)?;
    let style = Style::of(&stdout());
    if !job.connected {
        print(STALE);
    }
    print(&format!("{}  {}", harmless(&job.key), words(&job)));
    for one in &job.instances {
        print(&instance(one, job.current, style));
        let last = one
            .last
            .as_ref()
            .filter(|_| one.state != InstanceState::RUNNING);
        if let Some(why) = &one.why {
            print(&format!("        {}", harmless(why)));
        }
        if let Some(last) = last {
            let first = last.message.lines().next().unwrap_or_default();
            let text = format!("last: {} on {}: {first}", last.state, last.host);
            print(&format!("        {}", harmless(&text)));
            print(&format!("              {}", harmless(&last.task_id)));
        }
    }
    Ok(())
}

fn instance(one: &InstanceView, current: u32, style: Style) -> String {
    let colour = match one.state {
        InstanceState::RUNNING => Colour::Cyan,
        InstanceState::Finished => Colour::Green,
        InstanceState::Failed | InstanceState::Unhealthy | InstanceState::Unreachable => {
            Colour::Red
        }
        InstanceState::Killing | InstanceState::BackingOff => Colour::Yellow,
        InstanceState::Pending | InstanceState::Task(_) => Colour::Grey,
    };
    let state = style.paint(colour, &format!("{:11}", one.state));
    let mut text = format!("  {:>4}  {state}", one.instance);
    if let Some(version) = one.version {
        // The mark says that the instance has another version than those that are added later.
        let mark = if version == current { "" } else { "*" };
        text += &format!("  v{version}{mark}");
    }
    if let (Some(host), Some(id)) = (&one.host, &one.task_id) {
        text += &format!("  {}  {}", harmless(host), harmless(id));
    }
    for (name, port) in &one.ports {
        text += &format!("  {}={port}", harmless(name));
    }
    if one.failures > 0 {
        text += &format!("  {} failures", one.failures);
    }
    if one.short_runs > 1 && one.state != InstanceState::RUNNING {
        text += &format!("  {} short runs in a row", one.short_runs);
    }
    if let Some(until) = one.until {
        let left = until.saturating_sub(now_ms());
        text += &format!("  again in {} s", left.div_ceil(1000));
    }
    text
}

fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

pub(super) fn agents(answer: &Value) -> Result<(), Failure> {
    let agents: Vec<AgentView> = read(&answer["agents"])?;
    if agents.is_empty() {
        print("no agent has offered anything yet");
    }
    for agent in agents {
        let drained = if agent.drained { "  drained" } else { "" };
        let lost = if agent.lost { "  lost" } else { "" };
        let named = agent.attributes.iter().map(|(name, values)| {
            let text = format!("  {name}={}", values.join(","));
            harmless(&text)
        });
        let attributes: String = named.collect();
        print(&format!(
            "{}  {} tasks{drained}{lost}{attributes}  used {}  of {}  {}",
            harmless(&agent.host),
            agent.tasks,
            agent.used,
            agent.most,
            harmless(&agent.id)
        ));
    }
    Ok(())
}

pub(super) fn quotas(answer: &Value) -> Result<(), Failure> {
    let quotas: Vec<QuotaView> = read(&answer["quotas"])?;
    if quotas.is_empty() {
        print("no role has jobs or a quota");
    }
    for one in quotas {
        let quota = one
            .quota
            .map_or_else(|| "everything".to_owned(), |quota| quota.to_string());
        print(&format!(
            "{}  has {}  may have {}",
            harmless(&one.role),
            one.used,
            quota
        ));
    }
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, Failure> {
    T::deserialize(value).map_err(Failure::internal)
}
