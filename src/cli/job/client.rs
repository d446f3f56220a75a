//! A client of the scheduler's API: sends a request, reads the answer, or follows it line by line.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use serde_json::Value;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::{
    cli::{
        failure::{Code, Failure},
        verbs::scheduler::socket,
    },
    mesos::scheduler::{TOKEN, directory},
    web::Address,
};

/// Bytes of an answer, at most: a hundred thousand instances are some tens of megabytes.
const LARGEST: usize = 512 << 20;

/// Bytes of a line of a watched job, at most.
const LONGEST_LINE: usize = 1 << 20;
/// The time for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// The time until an answer begins.
const LONG_PATIENCE: Duration = Duration::from_secs(60);
/// The longest silence of a scheduler that is watched; it sends a line at least every 15 s.
const SIGN_OF_LIFE: Duration = Duration::from_secs(45);

/// How it ended to follow an answer.
pub(super) enum Followed {
    /// The answer is over, or the caller has seen enough.
    Ended,
    /// The scheduler knows nothing under this path.
    Unknown(Failure),
}

/// A scheduler, with what is needed to reach it.
pub(super) struct Client {
    address: Address,
    token: Option<String>,
    runtime: Runtime,
}

impl Client {
    pub fn new(
        address: Option<Address>,
        token_file: Option<PathBuf>,
        root: &Path,
    ) -> Result<Client, Failure> {
        let address = address.unwrap_or_else(|| Address::Unix(socket(root)));
        let read = |path: &Path| {
            let text = std::fs::read_to_string(path);
            text.map(|text| text.lines().next().unwrap_or_default().trim().to_owned())
        };
        let token = match (&token_file, &address) {
            (Some(path), _) => Some(
                read(path)
                    .map_err(|error| Failure::rejected(format!("{}: {error}", path.display())))?,
            ),
            // The user who runs a scheduler on this machine may read its token. It is not sent to
            // other machines.
            (None, Address::Tcp(host)) if is_here(host) => read(&directory(root).join(TOKEN)).ok(),
            (None, _) => None,
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Client {
            address,
            token,
            runtime: runtime.map_err(Failure::internal)?,
        })
    }

    /// Sends a request, and returns the whole answer.
    pub fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.runtime.block_on(async {
            let response = self.send(method, path, body).await?;
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            let body = body.map_err(|error| self.broken(error))?.to_bytes();
            serde_json::from_slice(&body).map_err(|error| self.broken(error))
        })
    }

    /// Sends a request, and hands every line of the answer to `line` until that returns true.
    pub fn follow(
        &self,
        path: &str,
        mut line: impl FnMut(&[u8]) -> Result<bool, Failure>,
    ) -> Result<Followed, Failure> {
        self.runtime.block_on(async {
            let response = match self.exchange(Method::GET, path, None).await? {
                response if response.status().is_success() => response,
                response => {
                    let is_unknown = response.status() == StatusCode::NOT_FOUND;
                    let failure = refused(response).await;
                    return match is_unknown {
                        true => Ok(Followed::Unknown(failure)),
                        false => Err(failure),
                    };
                }
            };
            let mut body = response.into_body();
            let mut buffer: Vec<u8> = Vec::new();
            loop {
                let frame = timeout(SIGN_OF_LIFE, body.frame()).await;
                let frame = frame.map_err(|_| self.broken("it says nothing any more"))?;
                let Some(frame) = frame else {
                    return Ok(Followed::Ended);
                };
                let frame = frame.map_err(|error| self.broken(error))?;
                buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                    let rest = buffer.split_off(end + 1);
                    let whole = std::mem::replace(&mut buffer, rest);
                    if line(&whole[..end])? {
                        return Ok(Followed::Ended);
                    }
                }
                if buffer.len() > LONGEST_LINE {
                    return Err(self.broken("what it says has no end"));
                }
            }
        })
    }

    /// Sends a request; a refusal is a failure.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let response = self.exchange(method, path, body).await?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(refused(response).await),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let connection = timeout(PATIENCE, self.address.connect()).await;
        let connection = connection.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let mut connection = connection.map_err(|error| {
            let text = format!("no scheduler at {}: {error}", self.address);
            Failure::new(Code::Failed, text).hint(
                "start one with `dewar scheduler --master HOST:PORT`, or name it with --scheduler",
            )
        })?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.host());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let request = request.body(Full::new(body)).map_err(Failure::rejected)?;
        let response = timeout(LONG_PATIENCE, connection.send(request)).await;
        let response = response.map_err(|_| self.broken("it does not answer"))?;
        response.map_err(|error| self.broken(error))
    }

    fn broken(&self, error: impl std::fmt::Display) -> Failure {
        let text = format!("the scheduler at {}: {error}", self.address);
        Failure::new(Code::Failed, text).hint("is it still running? then ask again")
    }
}

/// True for addresses that can only be this machine.
fn is_here(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    let ip = host.parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// The failure that a refusal of the scheduler means.
async fn refused(response: Response<Incoming>) -> Failure {
    let status = response.status().as_u16();
    let code = match status {
        400 | 401 | 403 | 409 | 421 => Code::Rejected,
        _ => Code::Failed,
    };
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    let error = said["error"].as_str().map_or_else(
        || format!("HTTP {status}: {}", String::from_utf8_lossy(&body)),
        str::to_owned,
    );
    let failure = Failure::new(code, error);
    match said["hint"].as_str() {
        Some(hint) => failure.hint(hint),
        None if status == 401 => failure.hint("name its file with --token-file"),
        None => failure,
    }
}

/// A step of a path, percent-encoded.
pub(super) fn quoted(part: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let mut out = String::new();
    for byte in part.bytes() {
        match is_plain(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
