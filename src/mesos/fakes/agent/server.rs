//! The fake agent's HTTP: exact content types, tokens, RecordIO in chunks.

use std::{convert::Infallible, sync::Arc};

use http_body_util::{BodyExt, Either, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;

use super::shared::Shared;
use crate::{
    mesos::protocol::{Wire, messages::executor::Call},
    web::{self, Pieces, Reply, Socket},
};

/// The largest call that is read, in bytes.
const LARGEST: usize = 64 << 20;

/// Serves one connection to its end.
pub(super) async fn serve(stream: Box<dyn Socket>, shared: Arc<Shared>) {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!("a connection of the executor: {error}");
    }
}

async fn answer(request: Request<Incoming>, shared: &Arc<Shared>) -> Reply {
    let header = |name| {
        let value = request.headers().get(name);
        value
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    if !request.uri().path().ends_with("/api/v1/executor") {
        return plain(404, "Not found");
    }
    if request.method() != Method::POST {
        return plain(405, "Expecting POST");
    }
    let wire = match header(CONTENT_TYPE).as_deref() {
        Some("application/x-protobuf") => Wire::Protobuf,
        Some("application/json") => Wire::Json,
        _ => {
            return plain(
                415,
                "Expecting 'Content-Type' of application/json or application/x-protobuf",
            );
        }
    };
    // As a real agent does, JSON is chosen whenever it is allowed.
    let accepts = header(ACCEPT).unwrap_or_default();
    let reply = match accepts.contains("json") || accepts.contains("*/*") {
        true => Wire::Json,
        false => Wire::Protobuf,
    };
    if let Some(token) = &shared.token
        && header(AUTHORIZATION) != Some(format!("Bearer {token}"))
    {
        return plain(401, "");
    }
    let body = match Limited::new(request.into_body(), LARGEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return plain(400, &error.to_string()),
    };
    match wire.decode::<Call>(&body) {
        Ok(call) => match shared.call(call, reply) {
            Ok(Some(events)) => {
                let mut response = Response::new(Either::Right(Pieces::Unbounded(events)));
                let content_type = hyper::header::HeaderValue::from_static(reply.content_type());
                response.headers_mut().insert(CONTENT_TYPE, content_type);
                response
            }
            Ok(None) => plain(202, ""),
            Err(refusal) => plain(refusal.status, refusal.why),
        },
        Err(error) => plain(400, &format!("Failed to parse body into Call: {error}")),
    }
}

fn plain(status: u16, text: &str) -> Reply {
    // Only the codes above occur.
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    web::plain(status, text.to_owned())
}
