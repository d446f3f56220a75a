//! Reading a task file for a verb.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    net::TcpListener,
    path::{Path, PathBuf},
};

use super::{
    failure::{Code, Failure},
    flags::BindingArgs,
    terminal::{Style, complain},
};
use crate::config::{Bindings, Diagnostics, Document, Resolved};

/// Bytes of a task file, at most.
const LARGEST: u64 = 16 << 20;

/// A task file that was parsed, and the one task of it that was chosen.
pub(super) struct TaskFile {
    path: String,
    source: String,
    document: Document,
    index: usize,
    directory: PathBuf,
}

impl TaskFile {
    pub fn read(path: &Path, args: &BindingArgs) -> Result<TaskFile, Failure> {
        let mut source = String::new();
        let read = if path == Path::new("-") {
            io::stdin().take(LARGEST).read_to_string(&mut source)
        } else {
            std::fs::File::open(path)
                .and_then(|file| file.take(LARGEST).read_to_string(&mut source))
        };
        let shown = path.display().to_string();
        let size = read.map_err(|error| Failure::rejected(format!("{shown}: {error}")))?;
        if size as u64 == LARGEST {
            return Err(Failure::rejected(format!("{shown}: larger than 16 MiB")));
        }
        // A byte order mark is no part of the text.
        if let Some(rest) = source.strip_prefix('\u{feff}') {
            source = rest.to_owned();
        }
        TaskFile::of_source(&source, path, args)
    }

    /// Parses `source`; `path` is what messages call it, and tells the format.
    pub fn of_source(source: &str, path: &Path, args: &BindingArgs) -> Result<TaskFile, Failure> {
        let source = source.to_owned();
        let shown = path.display().to_string();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_json = match extension {
            Some("json") => true,
            Some("yaml" | "yml") => false,
            _ => source.trim_start().starts_with(['{', '[']),
        };
        // Files that a task file names are looked for beside it; with standard input, in the
        // working directory.
        let beside = path.parent().filter(|parent| *parent != Path::new(""));
        let beside = std::path::absolute(beside.unwrap_or(Path::new(".")));
        let directory = beside.map_err(|error| Failure::rejected(format!("{shown}: {error}")))?;
        let document = Document::parse(&source, is_json)
            .map_err(|diagnostics| rejected(&diagnostics, &source, &shown))?;
        let index = choose(&document, args.task.as_deref(), &shown)?;
        Ok(TaskFile {
            path: shown,
            source,
            document,
            index,
            directory,
        })
    }

    /// The name of the chosen task, if it has one before it is resolved.
    pub fn name(&self) -> String {
        self.document.names()[self.index].clone()
    }

    /// The text of the file as it was read.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn ports(&self) -> BTreeSet<String> {
        self.document.ports(self.index)
    }

    /// Resolves the task and prints the warnings.
    pub fn resolve(&self, bindings: &Bindings) -> Result<Resolved, Failure> {
        let mut resolved = self
            .document
            .resolve(self.index, bindings)
            .map_err(|diagnostics| rejected(&diagnostics, &self.source, &self.path))?;
        for process in &mut resolved.task.processes {
            for file in &mut process.env_file {
                *file = self.directory.join(&*file).display().to_string();
            }
        }
        self.show(&resolved.diagnostics);
        Ok(resolved)
    }

    /// Prints what is to be said of the file, if anything is.
    pub fn show(&self, diagnostics: &Diagnostics) {
        if diagnostics.iter().next().is_some() {
            let colours = Style::of(&io::stderr()).colours;
            complain(&diagnostics.render(&self.source, &self.path, colours));
        }
    }
}

fn choose(document: &Document, wanted: Option<&str>, path: &str) -> Result<usize, Failure> {
    let names = document.names();
    match wanted {
        Some(wanted) => names.iter().position(|name| name == wanted).ok_or_else(|| {
            Failure::rejected(format!("{path}: no task called {wanted:?}"))
                .hint(format!("there are: {}", names.join(", ")))
        }),
        None if names.len() == 1 => Ok(0),
        None => Err(Failure::rejected(format!("{path} has several tasks"))
            .hint(format!("choose one with --task: {}", names.join(", ")))),
    }
}

fn rejected(diagnostics: &Diagnostics, source: &str, path: &str) -> Failure {
    let colours = Style::of(&io::stderr()).colours;
    let count = match diagnostics.errors() {
        1 => "1 error".to_owned(),
        count => format!("{count} errors"),
    };
    let text = diagnostics.render(source, path, colours);
    Failure::rendered(format!("{text}\n\n{path}: {count}; nothing was started"))
}

/// Numbers for all ports in `named`: those in `given`, and free ones for the others.
pub(super) fn allocate_ports(
    named: &BTreeSet<String>,
    given: &[(String, u16)],
) -> Result<BTreeMap<String, u16>, Failure> {
    let mut ports: BTreeMap<String, u16> = given.iter().cloned().collect();
    // All listeners stay open until the last port is found, so that no two are the same.
    let mut held = Vec::new();
    for name in named {
        if ports.contains_key(name) {
            continue;
        }
        let free = TcpListener::bind(("0.0.0.0", 0)).and_then(|listener| {
            let port = listener.local_addr()?.port();
            held.push(listener);
            Ok(port)
        });
        let free = free.map_err(|error| {
            Failure::new(
                Code::Rejected,
                format!("no free port for {name:?}: {error}"),
            )
        })?;
        ports.insert(name.clone(), free);
    }
    Ok(ports)
}

/// The name of this host, for `{{mesos.hostname}}`.
pub(super) fn hostname() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_else(|_| "localhost".to_owned())
}
