//! Requests to servers of this machine: attempts of health checks, and requests to end.
//!
//! Each has a limit of time, and only its own task waits for it.

use std::{error::Error, io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};

use super::health_check::AttemptResult;
use crate::task::HttpProbe;

/// Bytes of a body that is compared, at most.
const LARGEST_BODY: usize = 64 << 10;
/// Characters of a body that are quoted, at most.
const QUOTED: usize = 10;

/// Why a request failed.
#[derive(Debug, Error)]
pub(super) enum ProbeError {
    /// Nothing listens on the port.
    #[error("cannot connect to port {port}: {source}")]
    Connect { port: u16, source: io::Error },
    /// The conversation over HTTP failed.
    #[error("cannot ask http://127.0.0.1:{port}{path}: {source}")]
    Ask {
        port: u16,
        path: String,
        source: Box<dyn Error + Send + Sync>,
    },
    /// A health check was not answered in time.
    #[error("health check timed out")]
    TimedOut,
    /// The answer to a health check has another status than it should.
    #[error("response code differs: expected {wanted}, got {status}")]
    Status { wanted: String, status: u16 },
    /// The answer to a health check has another body than it should.
    #[error("response differs from expected response (expected {wanted:?}, got {got:?})")]
    Body { wanted: String, got: String },
    /// A request to end was refused.
    #[error("POST {path} was answered by {status}")]
    PostRefused { path: String, status: u16 },
    /// A request to end was not answered in time.
    #[error("POST {path} was not answered in time")]
    PostTimedOut { path: String },
}

/// Connects to a port of this machine.
pub(super) async fn tcp(port: u16, patience: Duration) -> AttemptResult {
    let connected = match timeout(patience, connect(port)).await {
        Ok(connected) => connected.map_err(|source| ProbeError::Connect { port, source }),
        Err(_) => return AttemptResult::failure(&ProbeError::TimedOut),
    };
    AttemptResult {
        value: Some(i32::from(connected.is_ok())),
        failure: connected.err().map(|error| error.to_string()),
    }
}

/// Asks a server of this machine.
pub(super) async fn http(probe: &HttpProbe, patience: Duration) -> AttemptResult {
    let asked = send(Method::GET, probe.port, &probe.path, !probe.body.is_empty());
    match timeout(patience, asked).await {
        Ok(Ok(answer)) => AttemptResult {
            value: Some(i32::from(answer.status)),
            failure: judge(probe, &answer).err().map(|error| error.to_string()),
        },
        Ok(Err(error)) => AttemptResult::failure(&error),
        Err(_) => AttemptResult::failure(&ProbeError::TimedOut),
    }
}

/// Asks a server of this machine to end.
pub(super) async fn post(port: u16, path: &str, patience: Duration) -> Result<(), ProbeError> {
    let path = path.to_owned();
    match timeout(patience, send(Method::POST, port, &path, false)).await {
        Ok(answer) => match answer?.status {
            200..400 => Ok(()),
            status => Err(ProbeError::PostRefused { path, status }),
        },
        Err(_) => Err(ProbeError::PostTimedOut { path }),
    }
}

async fn connect(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect(("127.0.0.1", port)).await
}

struct Answer {
    status: u16,
    body: Bytes,
}

async fn send(
    method: Method,
    port: u16,
    path: &str,
    wants_body: bool,
) -> Result<Answer, ProbeError> {
    let answer = exchange(method, port, path, wants_body).await;
    answer.map_err(|source| ProbeError::Ask {
        port,
        path: path.to_owned(),
        source,
    })
}

async fn exchange(
    method: Method,
    port: u16,
    path: &str,
    wants_body: bool,
) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let stream = connect(port).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let serving = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, format!("127.0.0.1:{port}"))
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = match wants_body {
        false => Bytes::new(),
        true => {
            let body = Limited::new(response.into_body(), LARGEST_BODY);
            body.collect().await?.to_bytes()
        }
    };
    serving.abort();
    Ok(Answer { status, body })
}

fn judge(probe: &HttpProbe, answer: &Answer) -> Result<(), ProbeError> {
    let status = answer.status;
    let is_right = match probe.status {
        0 => (200..400).contains(&status),
        wanted => status == wanted,
    };
    if !is_right {
        let wanted = match probe.status {
            0 => "200 to 399".to_owned(),
            wanted => wanted.to_string(),
        };
        return Err(ProbeError::Status { wanted, status });
    }
    let normal = |text: &str| text.trim().to_lowercase();
    let body = normal(&String::from_utf8_lossy(&answer.body));
    if !probe.body.is_empty() && body != normal(&probe.body) {
        let quoted = |text: &str| text.chars().take(QUOTED).collect::<String>();
        return Err(ProbeError::Body {
            wanted: quoted(&probe.body),
            got: quoted(&body),
        });
    }
    Ok(())
}
