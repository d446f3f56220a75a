//! From a submission to a job, or to every mistake with its place.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{bad_request::Refused, bodies::Submission};
use crate::{
    config::{JobMistakes, JobSource},
    task::Job,
};

/// Mistakes that one answer lists at most.
const MOST_MISTAKES: usize = 100;

/// Reads the job on a thread of its own: large files take a while, and other clients need not wait.
pub(super) async fn read_apart(submission: Submission) -> Result<Job, Refused> {
    let read = tokio::task::spawn_blocking(move || read(&submission)).await;
    read.map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?
}

fn read(submission: &Submission) -> Result<Job, Refused> {
    let task = submission.task.as_deref();
    let source = JobSource {
        job: &submission.job,
        job_is_json: submission.job_is_json,
        task: task.map(|task| (task, submission.task_is_json)),
        role: &submission.role,
    };
    match Job::read(&source) {
        // Warnings are the client's to show: it has the files.
        Ok((job, _)) => Ok(job),
        Err(mistakes) => Err(Refused {
            status: StatusCode::BAD_REQUEST,
            body: places(&mistakes, submission),
            allow: Vec::new(),
        }),
    }
}

fn places(mistakes: &JobMistakes, submission: &Submission) -> Value {
    let (file, text) = match mistakes.in_task {
        true => ("task", submission.task.as_deref().unwrap_or_default()),
        false => ("job", submission.job.as_str()),
    };
    let all: Vec<Value> = mistakes
        .diagnostics
        .iter()
        .take(MOST_MISTAKES)
        .map(|one| {
            let before = text.get(..one.span.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            json!({
                "file": file, "line": line, "column": column,
                "message": one.message, "label": one.label, "help": one.help,
            })
        })
        .collect();
    let count = mistakes.diagnostics.errors();
    json!({"error": format!("{count} mistakes in the {file}"), "mistakes": all})
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_submission_is_read_or_refused(job in "(\\PC|\n|: |- |\\{|\"){0,80}", task in prop::option::of(".{0,40}")) {
            let submission = Submission { job, task, role: "www".to_owned(), ..Submission::default() };
            for job_is_json in [false, true] {
                let submission = Submission { job_is_json, ..submission.clone() };
                let _ = read(&submission);
            }
        }
    }
}
