//! Attempts of health checks over the network: one that hangs delays nobody else.

use std::{io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::health_check::Outcome;
use crate::task::HttpProbe;

/// Of a body that is compared.
const LARGEST_BODY: usize = 64 << 10;
/// Of a body that is quoted, characters.
const QUOTED: usize = 10;

/// Connects to a port of this machine.
pub(super) async fn tcp(port: u16, patience: Duration) -> Outcome {
    let result = match timeout(patience, connect(port)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("cannot connect to port {port}: {error}")),
        Err(_) => return Outcome::bad(timed_out()),
    };
    Outcome {
        value: Some(i32::from(result.is_ok())),
        result,
    }
}

/// Asks a server of this machine.
pub(super) async fn http(probe: &HttpProbe, patience: Duration) -> Outcome {
    let asked = send(Method::GET, probe.port, &probe.path, !probe.body.is_empty());
    match timeout(patience, asked).await {
        Ok(Ok(answer)) => Outcome {
            value: Some(i32::from(answer.status)),
            result: judge(probe, answer),
        },
        Ok(Err(why)) => Outcome::bad(why),
        Err(_) => Outcome::bad(timed_out()),
    }
}

/// Asks a server of this machine to end.
pub(super) async fn post(port: u16, path: &str, patience: Duration) -> Result<(), String> {
    match timeout(patience, send(Method::POST, port, path, false)).await {
        Ok(answer) => match answer?.status {
            200..400 => Ok(()),
            status => Err(format!("POST {path} was answered by {status}")),
        },
        Err(_) => Err(format!("POST {path} was not answered in time")),
    }
}

fn timed_out() -> String {
    "health check timed out".to_owned()
}

async fn connect(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect(("127.0.0.1", port)).await
}

struct Answer {
    status: u16,
    body: Bytes,
}

async fn send(method: Method, port: u16, path: &str, wants_body: bool) -> Result<Answer, String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!("cannot ask http://127.0.0.1:{port}{path}: {error}")
    };
    let stream = connect(port).await.map_err(|error| failed(&error))?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| failed(&error))?;
    let serving = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, format!("127.0.0.1:{port}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| failed(&error))?;
    let status = response.status().as_u16();
    let body = match wants_body {
        false => Bytes::new(),
        true => {
            let body = Limited::new(response.into_body(), LARGEST_BODY)
                .collect()
                .await;
            body.map_err(|error| failed(&error))?.to_bytes()
        }
    };
    serving.abort();
    Ok(Answer { status, body })
}

fn judge(probe: &HttpProbe, answer: Answer) -> Result<(), String> {
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
        return Err(format!(
            "response code differs: expected {wanted}, got {status}"
        ));
    }
    let normal = |text: &str| text.trim().to_lowercase();
    let body = normal(&String::from_utf8_lossy(&answer.body));
    if !probe.body.is_empty() && body != normal(&probe.body) {
        let quoted = |text: &str| text.chars().take(QUOTED).collect::<String>();
        return Err(format!(
            "response differs from expected response (expected {:?}, got {:?})",
            quoted(&probe.body),
            quoted(&body)
        ));
    }
    Ok(())
}
