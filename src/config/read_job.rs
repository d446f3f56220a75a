//! Job files: how many instances of a task a cluster runs, where, and how they are replaced.
//!
//! A job is a map with a `task` in it: the task itself, or the path of a task file. This file opens
//! no files: the caller gives both texts. The vocabulary is Aurora's.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    decode::job::{Decoded, decode},
    diagnostic::Diagnostics,
    load::Document,
    template::Bindings,
    text::{
        node::{Node, Value},
        to_json::to_json,
    },
};
use crate::task::{Job, Task, UpdateConfig, is_name};

/// Bytes of the largest task: it is sent to a master for every instance, and kept in the journal.
const LARGEST_TASK: usize = 1 << 20;

/// The texts that a job is read from.
#[derive(Clone, Debug, Default)]
pub struct JobSource<'s> {
    /// The job file.
    pub job: &'s str,
    /// True when the job file is JSON, not YAML.
    pub job_is_json: bool,
    /// The task file that it names, and whether that is JSON.
    pub task: Option<(&'s str, bool)>,
    /// The role of a job file that names none.
    pub role: &'s str,
}

/// What is wrong with a job, and in which of its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobMistakes {
    /// True when they are in the task file; else they are in the job file.
    pub in_task: bool,
    /// All mistakes of that file.
    pub diagnostics: Diagnostics,
}

impl Job {
    /// The path of the task file that a job file names; `None` when the task is in the job itself,
    /// or there are mistakes that [`read`](Self::read) will tell.
    pub fn task_path(job: &str, is_json: bool) -> Option<String> {
        let document = Document::parse(job, is_json).ok()?;
        match &document.only()?.get("task")?.value {
            Value::String(path) => Some(path.clone()),
            _ => None,
        }
    }

    /// Reads and checks a job, its task too; warnings come along.
    ///
    /// # Errors
    /// When there are mistakes: all mistakes in the job, or else all in the task.
    pub fn read(source: &JobSource<'_>) -> Result<(Job, Diagnostics), JobMistakes> {
        let in_job = |diagnostics| JobMistakes {
            in_task: false,
            diagnostics,
        };
        let document = Document::parse(source.job, source.job_is_json).map_err(in_job)?;
        let mut diagnostics = Diagnostics::default();
        let Some(node) = document.only() else {
            diagnostics
                .error(&(0..0), "a job file has one job")
                .help("put every job into a file of its own");
            return Err(in_job(diagnostics));
        };
        let Some(mut decoded) = decode(node, source.role, &mut diagnostics) else {
            return Err(in_job(diagnostics));
        };
        let task = match (&decoded.task.value, source.task) {
            (Value::String(_), Some((text, is_json))) => {
                let in_task = |diagnostics| JobMistakes {
                    in_task: true,
                    diagnostics,
                };
                Document::parse(text, is_json).map_err(in_task)?
            }
            (Value::Map(_), _) => document.part(decoded.task.clone()),
            (Value::String(path), None) => {
                let why = format!("the task file {path:?} did not come along");
                diagnostics.error(&decoded.task.span, why);
                return Err(in_job(diagnostics));
            }
            _ => {
                diagnostics
                    .error(&decoded.task.span, "wrong type: `task`")
                    .label("expected a task, or the path of a task file");
                return Err(in_job(diagnostics));
            }
        };
        if diagnostics.has_errors() {
            diagnostics.sort();
            return Err(in_job(diagnostics));
        }
        let named = task.ports(0);
        for (port, span) in &decoded.wanted_ports {
            if !named.contains(port) && !decoded.job.ports.contains(port) {
                diagnostics
                    .error(span, format!("there is no port `{port}` for this"))
                    .help(format!(
                        "refer to {{{{thermos.ports[{port}]}}}} in the task, or add it to `ports`"
                    ));
            }
        }
        if diagnostics.has_errors() {
            return Err(in_job(diagnostics));
        }
        let in_task = source.task.is_some() && matches!(decoded.task.value, Value::String(_));
        let mistakes = |diagnostics| JobMistakes {
            in_task,
            diagnostics,
        };
        let Some(node) = task.only() else {
            diagnostics.error(&decoded.task.span, "a job has one task");
            return Err(mistakes(diagnostics));
        };
        complete(&mut decoded, node, &task).map_err(mistakes)?;
        diagnostics.sort();
        Ok((decoded.job, diagnostics))
    }

    /// True when an instance of `other` is what one of this job would be: they differ at most in
    /// how they are written, in how many there are and in how they are updated.
    pub fn runs_same(&self, other: &Job, instance: u32) -> bool {
        let without = |job: &Job| Job {
            task: String::new(),
            instances: 0,
            update: UpdateConfig::default(),
            ..job.clone()
        };
        without(self) == without(other)
            && (self.task == other.task || self.resolved(instance) == other.resolved(instance))
    }

    /// The task of one instance with stand-ins for what is only known where it runs.
    fn resolved(&self, instance: u32) -> Option<Task> {
        let document = Document::parse(&self.task, true).ok()?;
        let bindings = stand_ins(self, &self.task, instance);
        Some(document.resolve(0, &bindings).ok()?.task)
    }

    /// The data that the executor of an instance is sent, as JSON.
    pub fn data(&self, instance: u32) -> String {
        let mut text = format!("{{\"task\":{},\"instance\":{instance}", self.task);
        for (name, value) in [("role", &self.role), ("environment", &self.environment)] {
            text += &format!(",\"{name}\":{}", serde_json::Value::from(value.as_str()));
        }
        for (name, value) in &self.around {
            text += &format!(",\"{name}\":{value}");
        }
        text.push('}');
        text
    }
}

/// Adds what the task says to the job: its name, ports and resources.
fn complete(decoded: &mut Decoded, node: &Node, task: &Document) -> Result<(), Diagnostics> {
    let job = &mut decoded.job;
    let mut ports: BTreeSet<String> = task.ports(0);
    ports.extend(std::mem::take(&mut job.ports));
    job.ports = ports.into_iter().collect();
    let resolved = task.resolve(0, &stand_ins(job, &to_json(node).to_string(), 0))?;
    let mut diagnostics = resolved.diagnostics;
    if job.name.is_empty() {
        job.name = resolved.task.name.clone();
    }
    let resources = resolved.task.resources.unwrap_or_default();
    let span = match node.get("resources") {
        Some(given) => given.span.clone(),
        None => node.span.start..(node.span.start + 1).min(node.span.end),
    };
    let mut missing = Vec::new();
    for (name, is_missing) in [
        ("cpu", resources.cpu <= 0.0),
        ("ram", resources.ram.0 < 1 << 20),
        ("disk", resources.disk.0 < 1 << 20),
    ] {
        if is_missing {
            missing.push(name);
        }
    }
    if !missing.is_empty() {
        let names = missing.join(", ");
        diagnostics
            .error(
                &span,
                format!("a job's task needs {names} in its `resources`"),
            )
            .help("as in `resources: {cpu: 0.5, ram: 128MiB, disk: 64MiB}`: agents are chosen by them");
    }
    if !is_name(&job.name) {
        diagnostics
            .error(&span, format!("{:?} is no name of a job", job.name))
            .help("give the job a `name` of letters, digits, `_`, `-` and `.`");
    }
    (job.cpu, job.ram) = (resources.cpu, resources.ram);
    (job.disk, job.gpu) = (resources.disk, resources.gpu);
    job.task = to_json(node).to_string();
    let around: usize = job.around.values().map(String::len).sum();
    if job.task.len() + around > LARGEST_TASK {
        diagnostics
            .error(
                &span,
                format!("the task takes {} bytes", job.task.len() + around),
            )
            .label(format!("at most {LARGEST_TASK}"))
            .help("every instance is sent all of it; let it fetch what is large");
    }
    match diagnostics.has_errors() {
        true => Err(diagnostics),
        false => Ok(()),
    }
}

/// The job's `{{role}}` and `{{environment}}` as bindings, as far as `task` refers to them: Aurora
/// bound them too.
pub fn job_sets(task: &str, role: &str, environment: &str) -> BTreeMap<String, String> {
    let all = [("role", role), ("environment", environment)];
    let named = all
        .into_iter()
        .filter(|(name, _)| task.contains(&format!("{{{{{name}}}}}")));
    named
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Bindings in place of those that are known only where an instance runs.
fn stand_ins(job: &Job, task: &str, instance: u32) -> Bindings {
    let numbered = job.ports.iter().zip(1..);
    Bindings {
        task_id: "task".to_owned(),
        user: job.role.clone(),
        instance,
        hostname: "host".to_owned(),
        ports: numbered.map(|(name, port)| (name.clone(), port)).collect(),
        sets: job_sets(task, &job.role, &job.environment),
    }
}
