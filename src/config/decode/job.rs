//! From nodes to a [`Job`]: types, defaults, required and unknown fields. Its task is left as it
//! is.

use std::collections::BTreeMap;

use super::{
    fields::{Fields, wrong_type},
    wrapper::{HEALTH, check_health, check_lifecycle},
};
use crate::{
    config::{
        diagnostic::Diagnostics,
        table::job::{JOB, PARTITION, UPDATE},
        text::{
            node::{Node, Span, Value},
            to_json::to_json,
        },
    },
    task::{
        Bytes, Job, MOST_INSTANCES, PartitionPolicy, Period, Placement, Rule, UpdateConfig, is_name,
    },
};

/// The number of failures that stands for no limit, in Aurora.
const UNLIMITED: &str = "-1";

/// A job without what its task says.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub job: Job,
    pub task: Node,
    /// Names of ports that what stands around the task speaks to, with where that is.
    pub wanted_ports: Vec<(String, Span)>,
}

pub(crate) fn decode(node: &Node, role: &str, diagnostics: &mut Diagnostics) -> Option<Decoded> {
    let mut fields = Fields::of(node, &JOB, diagnostics)?;
    let task = fields.take("task").cloned();
    if task.is_none() {
        let start = fields.span.start;
        diagnostics
            .error(&(start..start + 1), "a job needs a `task`")
            .label("`task` is missing")
            .help("a task, or the path of a task file");
    }
    let mut name = |name: &str, default: &str, diagnostics: &mut Diagnostics| {
        let place = fields.place(name);
        let given = fields.string(name, diagnostics);
        let found = given.unwrap_or_else(|| default.to_owned());
        // The job's own name comes from its task when it has none.
        let may_be_absent = name == "name" && found.is_empty();
        if !may_be_absent && !is_name(&found) {
            diagnostics
                .error(&place, format!("{found:?} is no `{name}` of a job"))
                .help("at most 64 letters, digits, `_`, `-` and `.`");
        }
        found
    };
    let role = name("role", role, diagnostics);
    let environment = name("environment", "devel", diagnostics);
    let name = name("name", "", diagnostics);
    // A job is for the cluster whose scheduler it is sent to.
    fields.take("cluster");
    let instances = instances(&mut fields, diagnostics);
    let max_task_failures = failures(&mut fields, diagnostics);
    let priority = priority(&mut fields, diagnostics);
    let ports = fields.strings("ports", diagnostics).unwrap_or_default();
    let mut around = BTreeMap::new();
    let mut wanted_ports = Vec::new();
    if let Some(node) = fields.take("health_check_config") {
        if check_health(node, diagnostics) {
            wanted_ports.push((HEALTH.to_owned(), node.span.clone()));
        }
        around.insert("health_check_config".to_owned(), to_json(node).to_string());
    }
    if let Some(node) = fields.take("lifecycle") {
        if let Some(port) = check_lifecycle(node, diagnostics) {
            wanted_ports.push((port, node.span.clone()));
        }
        around.insert("lifecycle".to_owned(), to_json(node).to_string());
    }
    let job = Job {
        role,
        environment,
        name,
        instances,
        service: fields.boolean("service", diagnostics).unwrap_or(false),
        max_task_failures,
        priority,
        constraints: constraints(&mut fields, diagnostics),
        update: update(&mut fields, diagnostics),
        partition: partition(&mut fields, diagnostics),
        cpu: 0.0,
        ram: Bytes(0),
        disk: Bytes(0),
        gpu: 0,
        ports: ports.into_iter().map(|(name, _)| name).collect(),
        task: String::new(),
        around,
    };
    fields.finish(diagnostics);
    Some(Decoded {
        job,
        task: task?,
        wanted_ports,
    })
}

fn instances(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> u32 {
    let place = fields.place("instances");
    let count = fields.count("instances", diagnostics).unwrap_or(1);
    if !(1..=MOST_INSTANCES).contains(&count) {
        diagnostics
            .error(&place, format!("{count} instances"))
            .label(format!("1 to {MOST_INSTANCES}"));
    }
    count
}

fn failures(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> u32 {
    const NAME: &str = "max_task_failures";
    let unlimited = fields.take(NAME).and_then(Node::text);
    if unlimited.is_some_and(|text| text.trim() == UNLIMITED) {
        return 0;
    }
    fields.count(NAME, diagnostics).unwrap_or(1)
}

fn priority(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> i32 {
    let Some(node) = fields.take("priority") else {
        return 0;
    };
    match node.text().and_then(|text| text.trim().parse().ok()) {
        Some(priority) => priority,
        None => {
            wrong_type(node, "priority", "a whole number", diagnostics);
            0
        }
    }
}

/// `host: limit:2`, `rack: a,b`, `rack: "!a,b"`.
fn constraints(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> Vec<Placement> {
    let Some(node) = fields.take("constraints") else {
        return Vec::new();
    };
    let Value::Map(entries) = &node.value else {
        wrong_type(
            node,
            "constraints",
            "a map from attributes to rules",
            diagnostics,
        );
        return Vec::new();
    };
    let mut all = Vec::new();
    for entry in entries {
        let Some(text) = entry.node.text() else {
            wrong_type(
                &entry.node,
                &entry.key,
                "`limit:N`, or values such as `a,b` or `!a`",
                diagnostics,
            );
            continue;
        };
        match rule(&text) {
            Some(rule) => all.push(Placement {
                attribute: entry.key.clone(),
                rule,
            }),
            None => {
                diagnostics
                    .error(&entry.node.span, format!("{text:?} is no constraint"))
                    .help("`limit:N` (N from 1), or values such as `a,b` or `!a,b`");
            }
        }
    }
    all
}

fn rule(text: &str) -> Option<Rule> {
    let text = text.trim();
    if let Some(number) = text.strip_prefix("limit:") {
        let limit = number.trim().parse().ok()?;
        return (limit > 0).then_some(Rule::Limit(limit));
    }
    let (is_negated, list) = match text.strip_prefix('!') {
        Some(list) => (true, list),
        None => (false, text),
    };
    let values: Vec<String> = list.split(',').map(|one| one.trim().to_owned()).collect();
    let is_good = values.iter().all(|value| !value.is_empty());
    is_good.then_some(match is_negated {
        true => Rule::NotIn(values),
        false => Rule::In(values),
    })
}

fn update(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> UpdateConfig {
    let default = UpdateConfig::default();
    let Some(node) = fields.take("update_config") else {
        return default;
    };
    let Some(mut fields) = Fields::of(node, &UPDATE, diagnostics) else {
        return default;
    };
    let place = fields.place("batch_size");
    let mut count = |name: &str, default| fields.count(name, diagnostics).unwrap_or(default);
    let batch_size = count("batch_size", default.batch_size);
    let each = count("max_per_shard_failures", default.max_per_instance_failures);
    let total = count("max_total_failures", default.max_total_failures);
    let mut flag = |name: &str, default| fields.boolean(name, diagnostics).unwrap_or(default);
    let rollback_on_failure = flag("rollback_on_failure", default.rollback_on_failure);
    let wait_for_batch = flag("wait_for_batch_completion", default.wait_for_batch);
    if batch_size == 0 {
        diagnostics.error(&place, "`batch_size` is at least 1");
    }
    let config = UpdateConfig {
        batch_size,
        max_per_instance_failures: each,
        max_total_failures: total,
        rollback_on_failure,
        wait_for_batch,
        watch: period(&mut fields, "watch_secs", default.watch, diagnostics),
    };
    fields.finish(diagnostics);
    config
}

fn partition(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> PartitionPolicy {
    let default = PartitionPolicy::default();
    let Some(node) = fields.take("partition_policy") else {
        return default;
    };
    let Some(mut fields) = Fields::of(node, &PARTITION, diagnostics) else {
        return default;
    };
    let policy = PartitionPolicy {
        reschedule: fields
            .boolean("reschedule", diagnostics)
            .unwrap_or(default.reschedule),
        delay: period(&mut fields, "delay_secs", default.delay, diagnostics),
    };
    fields.finish(diagnostics);
    policy
}

/// Seconds, as the `_secs` in Aurora's names says; a fraction or a unit may be written too.
fn period(
    fields: &mut Fields<'_>,
    name: &str,
    default: Period,
    diagnostics: &mut Diagnostics,
) -> Period {
    let Some(node) = fields.take(name) else {
        return default;
    };
    match node.text().map(|text| text.parse::<Period>()) {
        Some(Ok(period)) => period,
        _ => {
            wrong_type(node, name, "seconds, or a duration such as 2m", diagnostics);
            default
        }
    }
}
