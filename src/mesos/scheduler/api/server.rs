//! The API's server: connections, who may ask, and the way of a question to the scheduler's loop
//! and back.
//!
//! What may be asked is decided in `endpoints`. A question is asked when its whole body has been
//! read, and answered when what it is about is durable.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{
    bad_request::Refused,
    endpoints::{Endpoint, Question},
    job_files::read_apart,
};
use crate::{
    mesos::scheduler::{
        core::{Answer, Request as Operation, SchedulerCore},
        event_loop::Ask,
        metrics::Metrics,
    },
    web::{Guard, Listener, Pieces, Reply, Socket, plain},
};

/// The largest body of a request: a job file and a task file, of which the journal keeps a
/// megabyte.
const LARGEST: usize = 4 << 20;
/// How long a client may take to send a body.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients at a time, of one listener: each may cost a buffer before it has said who it is.
const MOST_CLIENTS: usize = 256;
/// Bytes of a connection that are read ahead.
const BUFFER: usize = 64 << 10;

/// What all connections share.
struct Api {
    asks: mpsc::UnboundedSender<Ask>,
    guard: Guard,
}

/// Serves every client of this listener, for ever.
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
                tokio::time::sleep(Duration::from_millis(100)).await;
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
            let mut reply = json_reply(status, &json!({"error": why}));
            if status == StatusCode::UNAUTHORIZED {
                let bearer = HeaderValue::from_static("Bearer");
                reply.headers_mut().insert(WWW_AUTHENTICATE, bearer);
            }
            return reply;
        }
        match self.route(request).await {
            Ok(reply) => reply,
            Err(refused) => {
                let mut reply = json_reply(refused.status, &refused.body);
                let allow: Vec<&str> = refused.allow.iter().map(Method::as_str).collect();
                if let Ok(allow) = HeaderValue::from_str(&allow.join(", "))
                    && !refused.allow.is_empty()
                {
                    reply.headers_mut().insert(ALLOW, allow);
                }
                reply
            }
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Reply, Refused> {
        let uri = request.uri();
        let endpoint = Endpoint::find(request.method(), uri.path(), uri.query())?;
        let body = whole_body(request).await?;
        match endpoint.question(&body)? {
            Question::Status => self.look(status).await,
            Question::Metrics => self.metrics().await,
            Question::Jobs => self.look(|core| json!({"jobs": core.jobs()})).await,
            Question::Agents => self.look(|core| json!({"agents": core.agents()})).await,
            Question::Quotas => self.look(|core| json!({"quotas": core.quotas()})).await,
            Question::Job(key) => self.job(key).await,
            Question::Watch(key) => self.watch(key).await,
            Question::Create(submission) => {
                let job = Box::new(read_apart(submission).await?);
                self.request(Operation::Create(job)).await
            }
            Question::Update(submission, only) => {
                let force = submission.force;
                let job = Box::new(read_apart(submission).await?);
                self.request(Operation::Update { job, only, force }).await
            }
            Question::Request(request) => self.request(request).await,
        }
    }

    async fn ask<T>(&self, ask: Ask, reply: oneshot::Receiver<T>) -> Result<T, Refused> {
        let gone = || {
            Refused::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the scheduler is stopping; whether this was done is not known",
            )
        };
        self.asks.send(ask).map_err(|_| gone())?;
        reply.await.map_err(|_| gone())
    }

    /// Looks at the core now, and returns what it saw when all of that is durable.
    async fn seen<T: Send + 'static>(
        &self,
        look: impl FnOnce(&SchedulerCore, &Metrics) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let (send, receive) = oneshot::channel();
        let ask = Ask::Look(Box::new(move |core, metrics| {
            let seen = look(core, metrics);
            // The client may have left.
            Box::new(move || drop(send.send(seen)))
        }));
        self.ask(ask, receive).await
    }

    async fn look(
        &self,
        look: impl FnOnce(&SchedulerCore) -> Value + Send + 'static,
    ) -> Result<Reply, Refused> {
        let seen = self.seen(move |core, _| look(core)).await?;
        Ok(json_reply(StatusCode::OK, &seen))
    }

    async fn job(&self, key: String) -> Result<Reply, Refused> {
        let look =
            move |core: &SchedulerCore, _: &Metrics| core.known(&key).map(|key| core.job(&key));
        let view = self.seen(look).await??;
        Ok(json_reply(StatusCode::OK, &json!(view)))
    }

    async fn metrics(&self) -> Result<Reply, Refused> {
        let text = self.seen(|core, metrics| metrics.text(core)).await?;
        let text = text
            .map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        let mut reply = plain(StatusCode::OK, text);
        let kind =
            HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        reply.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(reply)
    }

    async fn watch(&self, key: String) -> Result<Reply, Refused> {
        let (send, receive) = oneshot::channel();
        let lines = self.ask(Ask::Watch(key, send), receive).await??;
        let mut reply = Response::new(Either::Right(Pieces::Bounded(lines)));
        let kind = HeaderValue::from_static("application/x-ndjson");
        reply.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(reply)
    }

    async fn request(&self, request: Operation) -> Result<Reply, Refused> {
        let (send, receive) = oneshot::channel();
        let answer = self.ask(Ask::Request(request, send), receive).await??;
        let body = match answer {
            Answer::Begun(key, message) => json!({"key": key, "message": message}),
            Answer::Done(message) => json!({"message": message}),
        };
        Ok(json_reply(StatusCode::OK, &body))
    }
}

async fn whole_body(request: Request<Incoming>) -> Result<Bytes, Refused> {
    let body = Limited::new(request.into_body(), LARGEST).collect();
    let body = timeout(PATIENCE, body).await.map_err(|_| {
        let why = format!(
            "the request's body did not come within {} s",
            PATIENCE.as_secs()
        );
        Refused::new(StatusCode::REQUEST_TIMEOUT, why)
    })?;
    let body = body.map_err(|error| Refused::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(body.to_bytes())
}

fn json_reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = plain(status, format!("{body}\n"));
    let kind = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}

fn status(core: &SchedulerCore) -> Value {
    json!({
        "connected": core.is_connected(),
        "framework_id": core.state().framework,
        "jobs": core.state().jobs.len(),
        "tasks": core.state().tasks.len(),
        "pending": core.pending(),
    })
}
