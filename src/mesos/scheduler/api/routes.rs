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

use std::{convert::Infallible, sync::Arc};

use http_body_util::Either;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::bodies::{
    Bad, Count, Over, QuotaBody, Submission, amounts, body, body_or_nothing, instances, some,
    submitted, whole,
};
use crate::{
    mesos::scheduler::{
        core::{Answer, Core, Request as Wish},
        event_loop::Ask,
        metrics::Metrics,
    },
    task::is_name,
    web::{Guard, Listener, Pieces, Reply, Socket, plain},
};

/// Clients at a time, of one listener: each may cost a buffer before it has said who it is.
const MOST_CLIENTS: usize = 256;
/// Bytes of a client's words that are read ahead.
const BUFFER: usize = 64 << 10;

/// What all connections share.
pub(super) struct Api {
    asks: mpsc::UnboundedSender<Ask>,
    guard: Guard,
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

pub(super) fn status(core: &Core) -> Value {
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
    }
}
