//! The API: JSON over HTTP, from requests to questions and back.
//!
//! | | |
//! | --- | --- |
//! | `GET /jobs`, `POST /jobs`, `PUT /jobs` | all, briefly; create; update |
//! | `GET /jobs/ROLE/ENVIRONMENT/NAME` | one, with its instances |
//! | `GET /jobs/ROLE/ENVIRONMENT/NAME/watch` | a line of JSON now and at every change, until it is gone |
//! | `POST /jobs/ROLE/ENVIRONMENT/NAME/VERB` | `kill`, `restart` (`{"instances": "0-2"}`), `scale` (`{"count": 5}`), `pause`, `resume`, `abort` |
//! | `GET /agents`, `POST /agents/HOST/drain` | `{"over": true}` ends it |
//! | `GET /quotas`, `PUT /quotas/ROLE`, `DELETE /quotas/ROLE` | `{"cpu": 4, "ram": "8GiB", "disk": "10GiB", "gpu": 0}`, any of them |
//! | `GET /status`, `GET /metrics` | for programs; for Prometheus |

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Either, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use crate::{
    config::{JobMistakes, JobSource},
    mesos::scheduler::{
        core::{
            Amounts, Answer, Core, Refusal, Request as Wish, Sort, UNLIMITED, mib, thousandths,
        },
        event_loop::Ask,
        metrics::Metrics,
        ranges::parse_instances,
    },
    task::{Bytes, Job, is_name},
    web::{Guard, Listener, Pieces, Reply, Socket, plain},
};

/// Largest request: a job file and a task file, of which a megabyte is kept.
const LARGEST: usize = 4 << 20;
/// A request's body is here by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients at a time, of one listener: each may cost a buffer before it has said who it is.
const MOST_CLIENTS: usize = 256;
/// Bytes of a client's words that are read ahead.
const BUFFER: usize = 64 << 10;
/// Mistakes that are told at a time.
const MOST_MISTAKES: usize = 100;

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
struct Count {
    count: u32,
}

#[derive(Debug, Default, Deserialize)]
struct Over {
    #[serde(default)]
    over: bool,
}

/// Nobody has more.
const MOST_CORES: f64 = 1e9;

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

/// What all connections share.
pub(super) struct Api {
    asks: mpsc::UnboundedSender<Ask>,
    guard: Guard,
}

/// A request that is turned down.
struct Bad {
    status: StatusCode,
    body: Value,
}

impl Bad {
    fn new(status: StatusCode, error: impl Into<String>) -> Bad {
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

/// Serves everybody who comes to this listener, for ever.
pub(crate) async fn serve(listener: Listener, asks: mpsc::UnboundedSender<Ask>, guard: Guard) {
    let api = Arc::new(Api { asks, guard });
    let places = Arc::new(Semaphore::new(MOST_CLIENTS));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok(stream) => {
                let api = Arc::clone(&api);
                tokio::spawn(async move {
                    converse(stream, api).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Mostly too many open files: clients that leave make room.
                tracing::warn!("cannot accept a client: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: Box<dyn Socket>, api: Arc<Api>) {
    let service = service_fn(|request| {
        let api = Arc::clone(&api);
        async move { Ok::<_, Infallible>(api.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!("a client: {error}");
    }
}

impl Api {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        if let Some((status, why)) = self.guard.refuse(request.headers()) {
            let mut reply = whole(status, &json!({"error": why}));
            if status == StatusCode::UNAUTHORIZED {
                let bearer = HeaderValue::from_static("Bearer");
                reply.headers_mut().insert(WWW_AUTHENTICATE, bearer);
            }
            return reply;
        }
        match self.route(request).await {
            Ok(reply) => reply,
            Err(bad) => whole(bad.status, &bad.body),
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Reply, Bad> {
        let path = decoded(request.uri().path());
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let method = request.method().clone();
        match (&method, parts.as_slice()) {
            (&Method::GET, ["status"]) => self.look(status).await,
            (&Method::GET, ["metrics"]) => self.metrics().await,
            (&Method::GET, ["jobs"]) => self.look(|core| json!({"jobs": core.jobs()})).await,
            (&Method::GET, ["agents"]) => self.look(|core| json!({"agents": core.agents()})).await,
            (&Method::GET, ["quotas"]) => self.look(|core| json!({"quotas": core.quotas()})).await,
            (&Method::POST, ["jobs"]) => {
                let job = submitted(body(request).await?).await?;
                self.wish(Wish::Create(Box::new(job))).await
            }
            (&Method::PUT, ["jobs"]) => {
                let submission = body::<Submission>(request).await?;
                let only = instances(submission.instances.as_deref())?;
                let force = submission.force;
                let job = Box::new(submitted(submission).await?);
                self.wish(match force {
                    true => Wish::UpdateAnyway(job, only),
                    false => Wish::Update(job, only),
                })
                .await
            }
            (&Method::GET, ["jobs", role, environment, name]) => {
                self.job(key(role, environment, name)).await
            }
            (&Method::GET, ["jobs", role, environment, name, "watch"]) => {
                self.watch(key(role, environment, name)).await
            }
            (&Method::POST, ["jobs", role, environment, name, verb]) => {
                let key = key(role, environment, name);
                let wish = match *verb {
                    "kill" => Wish::Kill(key, some(request).await?),
                    "restart" => Wish::Restart(key, some(request).await?),
                    "scale" => Wish::Scale(key, body::<Count>(request).await?.count),
                    "pause" => Wish::Pause(key),
                    "resume" => Wish::Resume(key),
                    "abort" => Wish::Abort(key),
                    other => {
                        let why = format!("a job cannot be asked to {other}");
                        return Err(Bad::new(StatusCode::NOT_FOUND, why));
                    }
                };
                self.wish(wish).await
            }
            (&Method::POST, ["agents", host, "drain"]) => {
                let host = (*host).to_owned();
                let over = body_or_nothing::<Over>(request).await?.over;
                self.wish(Wish::Drain(host, over)).await
            }
            (&Method::PUT, ["quotas", role]) => {
                if !is_name(role) {
                    let why = format!("{role:?} is no role: letters, digits, `_`, `-` and `.`");
                    return Err(Bad::new(StatusCode::BAD_REQUEST, why));
                }
                let role = (*role).to_owned();
                let quota = amounts(&body::<QuotaBody>(request).await?)?;
                self.wish(Wish::Quota(role, Some(quota))).await
            }
            (&Method::DELETE, ["quotas", role]) => {
                self.wish(Wish::Quota((*role).to_owned(), None)).await
            }
            (_, ["jobs" | "agents" | "quotas" | "status" | "metrics", ..]) => Err(Bad::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("{method} {path}: no such question"),
            )),
            _ => Err(Bad::new(
                StatusCode::NOT_FOUND,
                format!(
                    "there is nothing at {path}; see /jobs, /agents, /quotas, /status, /metrics"
                ),
            )),
        }
    }

    async fn ask<T>(&self, ask: Ask, reply: oneshot::Receiver<T>) -> Result<T, Bad> {
        let gone = || {
            Bad::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the scheduler is stopping; whether this was done is not known",
            )
        };
        self.asks.send(ask).map_err(|_| gone())?;
        reply.await.map_err(|_| gone())
    }

    /// What somebody sees who looks at the core now; told when what it is about is durable.
    async fn seen<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core, &Metrics) -> T + Send + 'static,
    ) -> Result<T, Bad> {
        let (send, receive) = oneshot::channel();
        let ask = Ask::Look(Box::new(move |core, metrics| {
            let seen = look(core, metrics);
            // Whoever asked may be gone.
            Box::new(move || drop(send.send(seen)))
        }));
        self.ask(ask, receive).await
    }

    async fn look(&self, look: impl FnOnce(&Core) -> Value + Send + 'static) -> Result<Reply, Bad> {
        let seen = self.seen(move |core, _| look(core)).await?;
        Ok(whole(StatusCode::OK, &seen))
    }

    async fn job(&self, key: String) -> Result<Reply, Bad> {
        let look = move |core: &Core, _: &Metrics| core.known(&key).map(|key| core.job(&key));
        let view = self.seen(look).await??;
        Ok(whole(StatusCode::OK, &json!(view)))
    }

    async fn metrics(&self) -> Result<Reply, Bad> {
        let text = self.seen(|core, metrics| metrics.text(core)).await?;
        let text =
            text.map_err(|error| Bad::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        let mut reply = plain(StatusCode::OK, text);
        let kind =
            HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        reply.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(reply)
    }

    async fn watch(&self, key: String) -> Result<Reply, Bad> {
        let (send, receive) = oneshot::channel();
        let lines = self.ask(Ask::Watch(key, send), receive).await??;
        let mut reply = Response::new(Either::Right(Pieces::Bounded(lines)));
        let kind = HeaderValue::from_static("application/x-ndjson");
        reply.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(reply)
    }

    async fn wish(&self, wish: Wish) -> Result<Reply, Bad> {
        let (send, receive) = oneshot::channel();
        let answer = self.ask(Ask::Request(wish, send), receive).await??;
        let body = match answer {
            Answer::Begun(key, message) => json!({"key": key, "message": message}),
            Answer::Done(message) => json!({"message": message}),
        };
        Ok(whole(StatusCode::OK, &body))
    }
}

fn status(core: &Core) -> Value {
    json!({
        "connected": core.is_connected(),
        "framework_id": core.state().framework,
        "jobs": core.state().jobs.len(),
        "tasks": core.state().tasks.len(),
        "pending": core.pending(),
    })
}

fn key(role: &str, environment: &str, name: &str) -> String {
    format!("{role}/{environment}/{name}")
}

fn amounts(quota: &QuotaBody) -> Result<Amounts, Bad> {
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
fn instances(text: Option<&str>) -> Result<BTreeSet<u32>, Bad> {
    let parsed = text.map(parse_instances).transpose();
    let parsed = parsed.map_err(|why| Bad::new(StatusCode::BAD_REQUEST, why))?;
    Ok(parsed.unwrap_or_default())
}

async fn some(request: Request<Incoming>) -> Result<BTreeSet<u32>, Bad> {
    instances(
        body_or_nothing::<Instances>(request)
            .await?
            .instances
            .as_deref(),
    )
}

/// The job, or every mistake with its place. Reading may take a while, and others need not wait for it.
async fn submitted(submission: Submission) -> Result<Job, Bad> {
    let read = tokio::task::spawn_blocking(move || read(&submission)).await;
    read.map_err(|error| Bad::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?
}

fn read(submission: &Submission) -> Result<Job, Bad> {
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

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Bad> {
    parsed(&bytes(request).await?)
}

/// As [`body`], but nothing is as good as `{}`.
async fn body_or_nothing<T: DeserializeOwned + Default>(
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

fn whole(status: StatusCode, body: &Value) -> Reply {
    let mut reply = plain(status, format!("{body}\n"));
    let kind = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}

/// A path with its `%XX` read; what is none stays as it is.
fn decoded(path: &str) -> String {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%');
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        assert_eq!(decoded("/jobs/a%2Fb/%25x/%zz%4"), "/jobs/a/b/%x/%zz%4");
    }

    proptest! {
        #[test]
        fn any_path_is_decoded(path in ".*") {
            let _ = decoded(&path);
        }

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
