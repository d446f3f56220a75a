//! Jobs, agents and quotas as tables for people.

use std::io::stdout;

use jiff::Timestamp;
use serde_json::Value;

use super::super::{
    failure::Failure,
    terminal::{Colour, Style, harmless, print},
};
use super::progress::words;
use crate::scheduler::core::{AgentView, InstanceView, JobView, QuotaView};

pub(super) fn jobs(answer: &Value) -> Result<(), Failure> {
    let jobs: Vec<JobView> = read(&answer["jobs"])?;
    if jobs.is_empty() {
        print("no jobs");
    }
    let width = jobs.iter().map(|job| job.key.len()).max().unwrap_or(0);
    for job in jobs {
        print(&format!("{:width$}  {}", harmless(&job.key), words(&job)));
        if let Some(why) = &job.why {
            print(&format!("{:width$}  {}", "", harmless(why)));
        }
    }
    Ok(())
}

pub(super) fn job(answer: &Value) -> Result<(), Failure> {
    let job: JobView = read(answer)?;
    let style = Style::of(&stdout());
    print(&format!("{}  {}", harmless(&job.key), words(&job)));
    for one in &job.instances {
        print(&instance(one, style));
        let last = one.last.as_ref().filter(|_| one.state != "RUNNING");
        if let Some(why) = &one.why {
            print(&format!("        {}", harmless(why)));
        }
        if let Some(last) = last {
            let first = last.message.lines().next().unwrap_or_default();
            let text = format!("last: {} on {}: {first}", last.state, last.host);
            print(&format!("        {}", harmless(&text)));
        }
    }
    Ok(())
}

fn instance(one: &InstanceView, style: Style) -> String {
    let colour = match one.state.as_str() {
        "RUNNING" => Colour::Cyan,
        "FINISHED" => Colour::Green,
        "FAILED" | "UNHEALTHY" | "UNREACHABLE" => Colour::Red,
        "KILLING" | "BACKING_OFF" => Colour::Yellow,
        _ => Colour::Grey,
    };
    let state = style.paint(colour, &format!("{:11}", harmless(&one.state)));
    let mut text = format!("  {:>4}  {state}", one.instance);
    if let Some(version) = one.version {
        text += &format!("  v{version}");
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
    if let Some(until) = one.until.and_then(|ms| i64::try_from(ms).ok())
        && let Ok(until) = Timestamp::from_millisecond(until)
    {
        text += &format!("  until {until}");
    }
    text
}

pub(super) fn agents(answer: &Value) -> Result<(), Failure> {
    let agents: Vec<AgentView> = read(&answer["agents"])?;
    if agents.is_empty() {
        print("no agent has offered anything yet");
    }
    for agent in agents {
        let drained = if agent.drained { "  drained" } else { "" };
        print(&format!(
            "{}  {} tasks{drained}  used {}  of {}  {}",
            harmless(&agent.host),
            agent.tasks,
            harmless(&agent.used),
            harmless(&agent.most),
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
        let quota = one.quota.unwrap_or_else(|| "everything".to_owned());
        print(&format!(
            "{}  has {}  may have {}",
            harmless(&one.role),
            harmless(&one.used),
            harmless(&quota)
        ));
    }
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, Failure> {
    T::deserialize(value).map_err(Failure::internal)
}
