//! A task file from its text to tasks: parse, expand templates, decode, check.
//!
//! A file may hold several tasks, and a scheduler puts data around a task. What is known only where
//! the task runs (its id, ports, host) comes as [`Bindings`].

use std::collections::{BTreeMap, BTreeSet};

use super::{
    check::{check, hints},
    decode::{
        task::decode,
        wrapper::{read_health, read_lifecycle},
    },
    diagnostic::Diagnostics,
    table::wrapper::AROUND_TASK,
    template::{Bindings, Expander},
    text::{
        json,
        node::{Node, Value},
        yaml,
    },
};
use crate::task::{Health, Lifecycle, Task};

/// A file that parsed: one task or several.
#[derive(Debug)]
pub struct Document {
    source: String,
    tasks: Vec<Node>,
    forgives_unknown: bool,
    /// The map that stood around the only task.
    outer: Option<Node>,
}

/// A task that is ready to run, with what to warn about.
#[derive(Debug)]
pub struct Resolved {
    /// The task, with every default filled in.
    pub task: Task,
    /// Warnings; there are no errors.
    pub diagnostics: Diagnostics,
    /// What could be better, for a user who asks.
    pub hints: Diagnostics,
}

/// What a scheduler puts around a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wrapper {
    /// The number of the instance, `{{mesos.instance}}`.
    pub instance: Option<u32>,
    /// The user that runs it.
    pub role: Option<String>,
    /// The environment of its job.
    pub environment: Option<String>,
    /// Names of other fields around the task; they mean nothing to this executor.
    pub ignored: Vec<String>,
}

impl Document {
    /// Parses `source`: JSON when its first character is `{` or `[` and it is JSON, else YAML (a
    /// stream of documents is several tasks, as is `{tasks: [...]}`).
    ///
    /// # Errors
    /// When it is no JSON or YAML, with the place where that shows.
    pub fn parse(source: &str, is_json: bool) -> Result<Document, Diagnostics> {
        let mut diagnostics = Diagnostics::default();
        let documents = match is_json {
            true => json::parse(source, &mut diagnostics).map(|node| vec![node]),
            false => yaml::parse(source, &mut diagnostics),
        };
        let mut tasks = Vec::new();
        for node in documents.unwrap_or_default() {
            match node.get("tasks").map(|tasks| &tasks.value) {
                Some(Value::List(list)) if node.get("processes").is_none() => {
                    tasks.extend(list.iter().cloned());
                }
                _ if node.value == Value::Null => {}
                _ => tasks.push(node),
            }
        }
        if tasks.is_empty() && !diagnostics.has_errors() {
            diagnostics
                .error(&(0..0), "there is no task in this file")
                .help("a task is a map with `processes`");
        }
        match diagnostics.has_errors() {
            true => Err(diagnostics),
            false => Ok(Document {
                source: source.to_owned(),
                tasks,
                forgives_unknown: false,
                outer: None,
            }),
        }
    }

    /// The task of a file that has one only.
    pub(super) fn only(&self) -> Option<&Node> {
        match self.tasks.as_slice() {
            [node] => Some(node),
            _ => None,
        }
    }

    /// A document of just this part of the text.
    pub(super) fn part(&self, node: Node) -> Document {
        Document {
            source: self.source.clone(),
            tasks: vec![node],
            forgives_unknown: false,
            outer: None,
        }
    }

    /// From here on unknown fields are only warned about.
    pub fn forgive_unknown(&mut self) {
        self.forgives_unknown = true;
    }

    /// Takes what stands around the only task, as in `{task: {...}, instance: 0, role: www}`:
    /// Thermos' schedulers wrap a task so. The document is that task from here on. `None` when
    /// nothing stands around it.
    pub fn take_wrapper(&mut self) -> Option<Wrapper> {
        let [node] = self.tasks.as_slice() else {
            return None;
        };
        let task = node
            .get("task")
            .filter(|_| node.get("processes").is_none())?;
        let text = |name| node.get(name).and_then(Node::text);
        let wrapper = Wrapper {
            instance: text("instance").and_then(|text| text.trim().parse().ok()),
            role: text("role"),
            environment: text("environment"),
            ignored: node
                .keys()
                .filter(|key| !AROUND_TASK.names().any(|known| known == *key))
                .map(str::to_owned)
                .collect(),
        };
        let task = task.clone();
        self.outer = self.tasks.pop();
        self.tasks = vec![task];
        Some(wrapper)
    }

    /// The health check that was given around the task (see [`take_wrapper`](Self::take_wrapper)):
    /// a script, or GET at the port called `health`, where there is one.
    pub fn outer_health(&self, bindings: &Bindings) -> Option<Health> {
        let outer = self.outer.as_ref()?;
        let mut ignored = Diagnostics::default();
        let mut expander = Expander::new(&self.source, bindings, &mut ignored);
        let node = outer.get("health_check_config");
        let node = node.map(|node| expander.expand(node, &[]));
        read_health(node.as_ref(), bindings.ports.get("health").copied())
    }

    /// The lifecycle that was given around the task, if the port that it names is known.
    pub fn outer_lifecycle(&self, bindings: &Bindings) -> Option<Lifecycle> {
        let node = self.outer.as_ref()?.get("lifecycle");
        read_lifecycle(node, |name| bindings.ports.get(name).copied())
    }

    /// The names of the tasks, as far as they have one before they are resolved.
    pub fn names(&self) -> Vec<String> {
        let numbered = self.tasks.iter().enumerate();
        numbered
            .map(|(index, node)| {
                let name = node.get("name").and_then(Node::text);
                name.unwrap_or_else(|| format!("#{}", index + 1))
            })
            .collect()
    }

    /// The ports that the task at `index` refers to.
    pub fn ports(&self, index: usize) -> BTreeSet<String> {
        let mut ignored = Diagnostics::default();
        let bindings = Bindings::default();
        let mut expander = Expander::new(&self.source, &bindings, &mut ignored);
        expander.expand(&self.tasks[index], &[]);
        expander.ports.into_keys().collect()
    }

    /// The task at `index`, complete and checked.
    ///
    /// # Errors
    /// When there are mistakes: all of them, and the warnings too.
    pub fn resolve(&self, index: usize, bindings: &Bindings) -> Result<Resolved, Diagnostics> {
        let mut diagnostics = Diagnostics::default();
        if self.forgives_unknown {
            diagnostics.forgive_unknown();
        }
        let mut expander = Expander::new(&self.source, bindings, &mut diagnostics);
        let node = expander.expand(&self.tasks[index], &[]);
        let unused: Vec<String> = expander.unused_sets().cloned().collect();
        let missing: BTreeMap<_, _> = std::mem::take(&mut expander.ports)
            .into_iter()
            .filter(|(name, _)| !bindings.ports.contains_key(name))
            .collect();
        for (name, span) in missing {
            diagnostics
                .error(&span, format!("port `{name}` is not given"))
                .help(format!("give it with --port {name}=NUMBER"));
        }
        for name in unused {
            let start = node.span.start;
            diagnostics.warning(
                &(start..start),
                format!("--set {name}: nothing refers to it"),
            );
        }
        let decoded = decode(&node, &mut diagnostics);
        if let Some(decoded) = &decoded {
            check(decoded, &mut diagnostics);
        }
        diagnostics.sort();
        match decoded {
            Some(decoded) if !diagnostics.has_errors() => Ok(Resolved {
                hints: hints(&decoded),
                task: decoded.task,
                diagnostics,
            }),
            _ => Err(diagnostics),
        }
    }
}
