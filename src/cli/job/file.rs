//! A job file and the task file that it names, checked before anything is sent.

use std::{fs, io::Read, path::Path};

use crate::{
    cli::{
        failure::Failure,
        terminal::{Style, complain},
    },
    config::JobSource,
    mesos::scheduler::Submission,
    sandbox::Account,
    task::Job,
};

/// Bytes of a job file or a task file, at most.
const LARGEST: u64 = 16 << 20;

/// Reads, checks and packs a job; prints its warnings.
pub(super) fn submission(path: &Path) -> Result<(Submission, String), Failure> {
    let job = read(path)?;
    let job_is_json = is_json(path, &job);
    let beside = path.parent().unwrap_or(Path::new("."));
    let task_path = Job::task_path(&job, job_is_json).map(|name| beside.join(name));
    let task = task_path.as_deref().map(read).transpose()?;
    let task_is_json = match (&task_path, &task) {
        (Some(path), Some(task)) => is_json(path, task),
        _ => false,
    };
    let role = Account::own().name;
    let source = JobSource {
        job: &job,
        job_is_json,
        task: task.as_deref().map(|task| (task, task_is_json)),
        role: &role,
    };
    let colours = Style::of(&std::io::stderr()).colours;
    let shown = |in_task: bool| match (&task_path, &task) {
        (Some(path), Some(task)) if in_task => (task.as_str(), path.display().to_string()),
        _ => (job.as_str(), path.display().to_string()),
    };
    let key = match Job::read(&source) {
        Err(mistakes) => {
            let (text, name) = shown(mistakes.in_task);
            let all = mistakes.diagnostics.render(text, &name, colours);
            let count = match mistakes.diagnostics.errors() {
                1 => "1 error".to_owned(),
                count => format!("{count} errors"),
            };
            return Err(Failure::rendered(format!(
                "{all}\n\n{name}: {count}; nothing was sent"
            )));
        }
        Ok((job, warnings)) => {
            if warnings.iter().next().is_some() {
                let (text, name) = shown(true);
                complain(&warnings.render(text, &name, colours));
            }
            job.key()
        }
    };
    let submission = Submission {
        job,
        job_is_json,
        task,
        task_is_json,
        role,
        instances: None,
        force: false,
    };
    Ok((submission, key))
}

fn read(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let mut text = String::new();
    let size = fs::File::open(path)
        .and_then(|file| file.take(LARGEST).read_to_string(&mut text))
        .map_err(|error| Failure::rejected(format!("{shown}: {error}")))?;
    if size as u64 == LARGEST {
        return Err(Failure::rejected(format!("{shown}: larger than 16 MiB")));
    }
    // A byte order mark is no part of the text.
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or(text.clone(), str::to_owned))
}

fn is_json(path: &Path, text: &str) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => true,
        Some("yaml" | "yml") => false,
        _ => text.trim_start().starts_with(['{', '[']),
    }
}
