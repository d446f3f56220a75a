//! The fake master's HTTP: exact content types, stream ids, redirects, RecordIO in chunks.

use std::{convert::Infallible, sync::Arc};

use http_body_util::{BodyExt, Either, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;

use super::shared::Shared;
use crate::{
    mesos::protocol::{
        Wire,
        messages::scheduler::{Call, call},
    },
    web::{Pieces, Reply, Socket, plain},
};

/// The largest call that is read, in bytes.
const LARGEST: usize = 64 << 20;
const STREAM_ID: &str = "Mesos-Stream-Id";

/// Serves one connection to its end.
pub(super) async fn serve(stream: Box<dyn Socket>, shared: Arc<Shared>) {
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!("a connection of the scheduler: {error}");
    }
}

async fn answer(request: Request<Incoming>, shared: &Arc<Shared>) -> Reply {
    let header = |name: &str| {
        let value = request.headers().get(name);
        let value = value.and_then(|value| value.to_str().ok());
        value.map(str::to_owned)
    };
    if request.uri().path() != "/api/v1/scheduler" {
        return plain(StatusCode::NOT_FOUND, "");
    }
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "Expecting POST");
    }
    if let Some(leader) = &shared.leader {
        let mut reply = plain(StatusCode::TEMPORARY_REDIRECT, "");
        let location = HeaderValue::from_str(&format!("//{leader}/api/v1/scheduler"));
        if let Ok(location) = location {
            reply.headers_mut().insert(LOCATION, location);
        }
        return reply;
    }
    if shared.authorization.is_some() && header(AUTHORIZATION.as_str()) != shared.authorization {
        return plain(StatusCode::UNAUTHORIZED, "");
    }
    let wire = match header(CONTENT_TYPE.as_str()).as_deref() {
        Some("application/x-protobuf") => Wire::Protobuf,
        Some("application/json") => Wire::Json,
        _ => {
            return plain(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Expecting a content type",
            );
        }
    };
    let accepts = header(ACCEPT.as_str()).unwrap_or_default();
    let reply = match accepts.contains("json") || accepts.contains("*/*") {
        true => Wire::Json,
        false => Wire::Protobuf,
    };
    let stream_id = header(STREAM_ID);
    let body = match Limited::new(request.into_body(), LARGEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return plain(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let call = match wire.decode::<Call>(&body) {
        Ok(call) => call,
        Err(error) => return plain(StatusCode::BAD_REQUEST, format!("Failed to parse: {error}")),
    };
    if call.r#type() == call::Type::Subscribe {
        return match shared.subscribe(&call, reply) {
            Ok((id, events)) => {
                let mut response = Response::new(Either::Right(Pieces::Unbounded(events)));
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type()));
                if let Ok(id) = HeaderValue::from_str(&id) {
                    headers.insert(STREAM_ID, id);
                }
                response
            }
            Err(refusal) => plain(status(refusal.status), refusal.why),
        };
    }
    match shared.call(&call, stream_id.as_deref()) {
        Ok(()) => plain(StatusCode::ACCEPTED, ""),
        Err(refusal) => plain(status(refusal.status), refusal.why),
    }
}

fn status(code: u16) -> StatusCode {
    // Only codes that are written in this room occur.
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
