//! Bodies of requests: what a client may send, and how its mistakes are named.

use std::{collections::BTreeSet, time::Duration};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    config::{JobMistakes, JobSource},
    mesos::scheduler::{
        core::{Amounts, Refusal, Sort, UNLIMITED, mib, thousandths},
        ranges::parse_instances,
    },
    task::{Bytes, Job},
    web::{Reply, plain},
};

/// Largest request: a job file and a task file, of which a megabyte is kept.
const LARGEST: usize = 4 << 20;
/// Nobody has more.
const MOST_CORES: f64 = 1e9;
/// Mistakes that are told at a time.
const MOST_MISTAKES: usize = 100;
/// A request's body is here by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// A job as clients send it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Submission {
    /// The job file's text.
    pub job: String,
    /// It is JSON; else YAML.
    #[serde(default)]
    pub job_is_json: bool,
    /// The text of the task file that it names.
    #[serde(default)]
    pub task: Option<String>,
    /// That is JSON; else YAML.
    #[serde(default)]
    pub task_is_json: bool,
    /// Where the job says no role.
    #[serde(default)]
    pub role: String,
    /// Of an update: only these instances, as in `0-2,5`; absent: all.
    #[serde(default)]
    pub instances: Option<String>,
    /// Of an update: also when no agent that is known could have it.
    #[serde(default)]
    pub force: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Instances {
    #[serde(default)]
    instances: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Count {
    pub(super) count: u32,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Over {
    #[serde(default)]
    pub(super) over: bool,
}

/// A quota as clients send it; what is absent stays as it is, and is without a limit at first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct QuotaBody {
    /// Cores.
    #[serde(default)]
    pub cpu: Option<f64>,
    /// As in `8GiB`.
    #[serde(default)]
    pub ram: Option<Bytes>,
    /// As in `8GiB`.
    #[serde(default)]
    pub disk: Option<Bytes>,
    /// Devices.
    #[serde(default)]
    pub gpu: Option<u32>,
}

pub(super) fn amounts(quota: &QuotaBody) -> Result<Amounts, Bad> {
    if let Some(cpu) = quota.cpu
        && !(0.0..=MOST_CORES).contains(&cpu)
    {
        let why = format!("{cpu} cores: 0 to {MOST_CORES} can be");
        return Err(Bad::new(StatusCode::BAD_REQUEST, why));
    }
    Ok(Amounts {
        cpus: quota.cpu.map_or(UNLIMITED, thousandths),
        mem: quota.ram.map_or(UNLIMITED, mib),
        disk: quota.disk.map_or(UNLIMITED, mib),
        gpus: quota.gpu.map_or(UNLIMITED, |count| u64::from(count) * 1000),
    })
}

/// None are named: all.
pub(super) fn instances(text: Option<&str>) -> Result<BTreeSet<u32>, Bad> {
    let parsed = text.map(parse_instances).transpose();
    let parsed = parsed.map_err(|why| Bad::new(StatusCode::BAD_REQUEST, why))?;
    Ok(parsed.unwrap_or_default())
}

pub(super) async fn some(request: Request<Incoming>) -> Result<BTreeSet<u32>, Bad> {
    instances(
        body_or_nothing::<Instances>(request)
            .await?
            .instances
            .as_deref(),
    )
}

/// The job, or every mistake with its place. Reading may take a while, and others need not wait for it.
pub(super) async fn submitted(submission: Submission) -> Result<Job, Bad> {
    let read = tokio::task::spawn_blocking(move || read(&submission)).await;
    read.map_err(|error| Bad::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?
}

pub(super) fn read(submission: &Submission) -> Result<Job, Bad> {
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
        Err(mistakes) => Err(Bad {
            status: StatusCode::BAD_REQUEST,
            body: places(&mistakes, submission),
        }),
    }
}

pub(super) fn places(mistakes: &JobMistakes, submission: &Submission) -> Value {
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

/// A request that is turned down.
pub(super) struct Bad {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Bad {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Bad {
        Bad {
            status,
            body: json!({"error": error.into()}),
        }
    }
}

impl From<Refusal> for Bad {
    fn from(refusal: Refusal) -> Bad {
        let status = match refusal.sort {
            Sort::Unknown => StatusCode::NOT_FOUND,
            Sort::Conflict => StatusCode::CONFLICT,
            Sort::Invalid => StatusCode::BAD_REQUEST,
            Sort::Quota => StatusCode::FORBIDDEN,
        };
        Bad {
            status,
            body: json!({"error": refusal.message, "hint": refusal.hint}),
        }
    }
}

async fn bytes(request: Request<Incoming>) -> Result<bytes::Bytes, Bad> {
    let body = Limited::new(request.into_body(), LARGEST).collect();
    let body = timeout(PATIENCE, body).await.map_err(|_| {
        let why = format!(
            "the request's body did not come within {} s",
            PATIENCE.as_secs()
        );
        Bad::new(StatusCode::REQUEST_TIMEOUT, why)
    })?;
    let body = body.map_err(|error| Bad::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(body.to_bytes())
}

pub(super) async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Bad> {
    parsed(&bytes(request).await?)
}

/// As [`body`], but nothing is as good as `{}`.
pub(super) async fn body_or_nothing<T: DeserializeOwned + Default>(
    request: Request<Incoming>,
) -> Result<T, Bad> {
    let bytes = bytes(request).await?;
    match bytes.is_empty() {
        true => Ok(T::default()),
        false => parsed(&bytes),
    }
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Bad> {
    serde_json::from_slice(bytes).map_err(|error| {
        let why = format!("the request is not what it should be: {error}");
        Bad::new(StatusCode::BAD_REQUEST, why)
    })
}

pub(super) fn whole(status: StatusCode, body: &Value) -> Reply {
    let mut reply = plain(status, format!("{body}\n"));
    let kind = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
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
